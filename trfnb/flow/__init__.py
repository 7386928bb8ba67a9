"""The way of the data, one module a stage.

There, from a Doc to one vector per token::

    spans        what the encoder reads at once
    wordpieces   tokenised spans, and which characters each piece stands for
    batching     pieces of about one length go through the encoder together
    encoder      ids -> hidden states, layer by layer
      engines      what runs a mini-batch: torch over packs or padded blocks, OpenVINO
      packed       BERT over packs
      runtime      precision, budget, engine
      saving       weights and tokenizer as files
    alignment    rows of wordpieces -> one vector per token
    listener     hands the vectors to a task's model

and back, from the task's gradient to new weights::

    listener     takes the gradient of its vectors
    grad_factor  what it is multiplied by: numbers, schedules, policies
    gradients    all listeners' gradients meet, go back together, and are logged
    encoder      adds them to the weights' gradients
    optimizer    steps the weights

A stage imports only those that its own work rests on; `tests/test_house.py` holds the order.
"""
