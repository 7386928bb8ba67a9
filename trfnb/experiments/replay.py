"""From the factors that were effective to a config that makes them so again."""

from collections.abc import Iterator, Mapping
from typing import Any

from thinc.api import Config

from trfnb.flow.gradient_log import GradientLog


def listener_blocks(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each component's listener block, by the component's name; the blocks themselves.

    Raises:
        ValueError: no component listens.
    """
    found = {
        name: block
        for name, component in config["components"].items()
        for block in _blocks(component)
        if "grad_factor" in block and "upstream" in block
    }
    if not found:
        raise ValueError(
            f"Expected a config with listeners that have a grad_factor, got the components "
            f"{list(config['components'])} without any. Build it with sharing='shared'."
        )
    return found


def schedules_of(log: GradientLog) -> dict[str, dict[str, Any]]:
    """Write each listener's effective factors as a ``trfnb.moves.v1`` block.

    Raises:
        ValueError: there is no step yet, or a policy chose several factors within one step.
    """
    if not log.steps:
        raise ValueError("No factors to export: expected at least one training step, got none.")
    if varied := [number for number, step in enumerate(log.steps, 1) if step.varied]:
        raise ValueError(
            f"The factors of {len(varied)} steps (first: {varied[0]}) differ between the parts of "
            "one accumulated batch, and a schedule has one a step. Keep the policy in the config "
            "instead, or train with accumulate_gradient = 1."
        )
    found = {}
    for place, name in enumerate(log.steps[0].listeners):
        starts, factors = [0], [log.steps[0].factors[place]]
        for made, step in enumerate(log.steps):
            if step.factors[place] != factors[-1]:
                starts.append(made)
                factors.append(step.factors[place])
        block = {"@schedules": "trfnb.moves.v1", "starts": starts, "factors": factors}
        found[name] = block
    return found


def tuned_config(
    config: Config, factors: Mapping[str, Mapping[str, Any]], updates: int = 0
) -> Config:
    """Put a tuned run's factors into its config.

    Args:
        config: The config that was tuned; it is not changed.
        factors: A schedule block a task, as `schedules_of` writes them.
        updates: Where the tuned run ended; 0 leaves the config's own limits.

    Raises:
        ValueError: names all tasks that the config lacks.
    """
    tuned = config.copy()
    blocks = listener_blocks(tuned)
    if unknown := [task for task in factors if task not in blocks]:
        raise ValueError(f"Factors expected tasks of {list(blocks)}, got unknown {unknown}.")
    for task, factor in factors.items():
        blocks[task]["grad_factor"] = dict(factor)
        # The factors hold what a policy chose.
        tuned["components"][blocks[task]["upstream"]]["balance"] = None
    if updates:
        tuned["training"]["max_steps"] = updates
    return tuned


def _blocks(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
        for inner in part.values():
            yield from _blocks(inner)
