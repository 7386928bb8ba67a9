"""What a table of runs answers."""

import json

import pandas as pd
import pytest

from trfnb.answer import Answer, Question, as_text

WAYS = {"shared": (0.90, 90.0), "independent": (0.93, 270.0), "frozen": (0.70, 90.0)}


def made(told: str = "[]", **changes: float) -> Answer:
    """Three seeds of three ways; a change shifts a way's score, also the one on dev."""
    rows = [
        {"sharing": way, "seed": seed, "tag_acc": score + 0.001 * seed, "mb": size}
        | {"dev_score": score - 0.001 * seed, "starved": told}
        for way, (score, size) in WAYS.items()
        for score in [score + changes.get(way, 0.0)]
        for seed in range(3)
    ]
    asked = Question(scores={"tag_acc": "tag accuracy"}, costs={"mb": "MB on disk"})
    return Answer(pd.DataFrame(rows), asked)


def test_each_task_has_a_verdict_each_way_its_costs_and_one_way_wins() -> None:
    answer = made()
    verdict, other, independent, frozen = answer.sentences()
    assert verdict.startswith("tag accuracy: keep apart: independent − shared is +0.030")
    assert other == ("frozen − shared: tag accuracy -0.200 (-0.200 to -0.200, shared is better).")
    assert independent == "independent: 3.00 × the MB on disk of shared."
    assert frozen == "frozen: 1.00 × the MB on disk of shared."
    assert answer.choice().startswith("Take independent. Mean dev_score: shared 0.899, indep")
    assert answer.best_run["sharing"] == "independent"
    assert answer.best_run["seed"] == 0  # the best on dev, not the best on test
    assert answer.table().loc["tag accuracy", "shared"].startswith("0.901 ± 0.002")


def test_sharing_wins_within_the_margin_and_only_where_it_was_run() -> None:
    assert made(independent=-0.022).winner == "shared"
    assert made(independent=-0.018).winner == "independent"
    without = made()
    without = Answer(without.runs[without.runs["sharing"] != "shared"], without.asked)
    assert without.winner == "independent"
    assert without.verdicts.empty
    assert without.sentences() == []
    one_task = made()  # for which sharing and an encoder of its own are the same
    one_task = Answer(one_task.runs[one_task.runs["sharing"] != "independent"], one_task.asked)
    (verdict,) = one_task.verdicts["sentence"]
    assert verdict.startswith("tag accuracy: shared is better: frozen − shared is -0.200")
    alone = Answer(without.runs[:3], without.asked)
    assert alone.choice() == "independent alone was run: nothing is compared."


def test_what_was_too_short_is_told_also_below_the_floor() -> None:
    answer = made(json.dumps(["still rising"]), shared=-0.23)
    told = answer.starved()
    assert told[:9] == [
        f"starved: {way}, seed {seed}: still rising" for way in WAYS for seed in range(3)
    ]
    (floor,) = told[9:]
    assert "shared: tag accuracy 0.671 is below 0.701 of frozen" in floor
    assert made(shared=-0.195).starved() == []


def test_a_card_holds_the_answer_and_how_to_load(tmp_path) -> None:
    folder = tmp_path / "pipe"
    folder.mkdir()
    (folder / "meta.json").write_text('{"lang": "en", "name": "news", "version": "0.0.0"}')
    answer = made()
    answer.write_card(folder, "Trained on a corpus.")
    card = (folder / "README.md").read_text()
    assert "A spaCy pipeline: independent. Trained on a corpus." in card
    assert 'spacy.load("path/to/pipe")' in card
    assert 'spacy.load("en_news")' in card
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["version"] == "0.0.0"
    assert card == f"# pipe\n\n{meta['notes']}"
    assert all(f"- {told}\n" in card for told in [answer.choice(), *answer.sentences()])
    assert "| MB on disk | 90.00 ± 0.00 | 270.0 ± 0.0 | 90.00 ± 0.00 |" in card
    assert len(pd.read_csv(folder / "runs.csv")) == 9
    assert pytest.approx(0.9) == pd.read_csv(folder / "runs.csv")["dev_score"][0]


def test_settings_may_be_numbers_and_signs_may_be_missing() -> None:
    runs = made().runs.replace({"sharing": {"shared": 1, "independent": 2, "frozen": 3}})
    runs["starved"] = [float("nan"), *["[]"] * 8]
    asked = Question(scores={"tag_acc": "tags"}, of="2", against="1", floor="3")
    answer = Answer(runs, asked)
    assert answer.best_run["sharing"] == "2"
    assert answer.starved() == []


@pytest.mark.parametrize(
    ("values", "against", "of"),
    [((0.0, 0.5), 0, 0.5), ((True, False), True, False), ((None, "x"), None, "x")],
)
def test_any_value_is_a_setting(values, against, of) -> None:
    rows = [
        {"option": value, "seed": seed, "f": score, "dev_score": score}
        for value, score in zip(values, (0.600, 0.605), strict=True)
        for seed in range(3)
    ]
    asked = Question(scores={"f": "F"}, by="option", against=against, of=of)
    answer = Answer(pd.DataFrame(rows), asked)
    assert answer.winner == as_text(against)
    (verdict,) = answer.sentences()
    assert verdict.startswith(f"F: no difference worth 0.01: {of} − {against} is +0.005")
    assert list(answer.table()) == [as_text(against), as_text(of)]


def test_means_are_over_the_seeds_that_all_have_and_say_so() -> None:
    runs = made().runs
    runs.loc[runs["seed"] == 2, "dev_score"] += 1.0
    failed = Answer(runs.drop(index=2), made(independent=-0.022).asked)
    assert failed.seeds == [0, 1]
    assert "shared 0.899, independent 0.929, frozen 0.700;" in failed.choice()
    assert failed.choice().endswith("means of the seeds that all have, [0, 1]: some lack [2].")
    assert failed.table().loc["tag accuracy", "independent"] == "0.931"  # of two seeds: no interval
    diverged = runs.assign(dev_score=runs["dev_score"].where(runs.index != 5))
    assert Answer(diverged, failed.asked).seeds == [0, 1]
    rest = Answer(runs[runs["sharing"] != "shared"], failed.asked)
    assert "wins where" not in rest.choice()


def test_a_score_or_cost_that_is_missing_is_told_or_left_out() -> None:
    runs = made().runs.assign(ents_f=float("nan"), seconds=[float("nan")] * 3 + [1.0] * 6)
    scores, costs = {"tag_acc": "tags", "ents_f": "entity F"}, {"seconds": "s", "mb": "MB"}
    told = Answer(runs, Question(scores=scores, costs=costs)).sentences()
    assert "entity F: not judged: no run scored it. Has what was scored such annotation?" in told
    assert "independent: 3.00 × the MB of shared." in told
