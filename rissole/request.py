"""From what is asked for to one checked recipe: whatever comes after checks nothing again."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from rissole.config import Recipe, RissoleError, check_repaints, named, quoted
from rissole.outputs import GenerationOutput
from rissole.retrieval.database import Database, Hits

# what a bundle says of painting, beside `k` of retrieval
SHIPPED = ("order", "grid", "num_inference_steps", "guidance_scale")

Init = GenerationOutput | Recipe | Mapping[str, Any] | None


class Origin(NamedTuple):
    """What recipes are painted with here: fingerprint of the weights, and the database."""

    bundle: str | None
    database: Database

    def check(self, recipe: Recipe) -> None:
        """Raises RissoleError when a recipe, but for what it is painted upon, is from elsewhere."""
        for name, given, own in (
            ("other weights", recipe.bundle, self.bundle),
            ("another database", recipe.database, self.database.fingerprint),
        ):
            if given is not None and given != own:
                shown = ascii(given)[1:-1][:20]  # a recipe may come from anybody
                raise RissoleError(f"the recipe was made with {name} ({shown}, here {own})")
        self.database.check(recipe.all_neighbors)

    def own(self, recipe: Recipe, init: Init = None) -> Recipe:
        """A recipe that can be painted here, with this origin.

        Args:
            init: an output at hand is not painted again, and may be from anywhere.

        Raises:
            RissoleError: when it cannot.
        """
        if isinstance(init, GenerationOutput):
            self.check(recipe)
            self._check_size(init)
            return replace(recipe, bundle=self.bundle, database=self.database.fingerprint)
        for layer in recipe.layers:
            self.check(layer)
        return recipe.stamped(self.bundle, self.database.fingerprint)

    def _check_size(self, init: GenerationOutput) -> None:
        """Raises RissoleError for latents that cannot be painted upon here."""
        given, own = tuple(init.latents.shape[1:]), self.database.latent_shape
        if given != own:
            raise RissoleError(f"init is of a model with latents {given}, those here are {own}")


def checked_recipe(
    hits: Hits | Recipe | None, settings: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Recipe:
    """Checks what was asked for; see `RissolePipeline.recipe`.

    Args:
        settings: as there, `init` among them; None is as good as left out.
        defaults: a bundle's, for settings that are left out, also of an `init` that is a mapping.

    Raises:
        RissoleError: one line that names what is wrong.
    """
    given = {name: value for name, value in named(settings).items() if value is not None}
    init = given.pop("init", None)
    if isinstance(hits, Recipe):
        upon_nothing = isinstance(init, GenerationOutput) and hits.init is None
        if given or upon_nothing or isinstance(init, Recipe | Mapping):
            raise RissoleError("a recipe is complete: nothing can be set beside it")
        return hits
    if (hits is None) == ("neighbors" not in given):
        raise RissoleError("give either hits or neighbors")
    if not isinstance(hits, Hits | None):
        raise RissoleError("hits must come from retrieve; numbers are given as neighbors=[...]")
    if isinstance(init, Mapping):
        check_repaints(init)
        init = checked_recipe(None, init, defaults)
    elif isinstance(init, GenerationOutput):
        init = init.checked[0]
    elif not isinstance(init, Recipe | None):
        raise RissoleError("init must be an earlier output or its recipe")
    given |= {} if hits is None else {"neighbors": hits.ids}
    given["seed"] = draw_seed(given.pop("generator", None), given.get("seed"))
    return Recipe.validated(**{name: defaults[name] for name in SHIPPED} | given, init=init)


def draw_seed(generator: torch.Generator | None, seed: int | None) -> int:
    """The seed of a run; a generator's own the first time it is used, then drawn from it.

    Raises:
        RissoleError: when both are given, or what is no generator.
    """
    if generator is None:
        return secrets.randbelow(2**32) if seed is None else seed
    if seed is not None:
        raise RissoleError("give a generator or a seed, not both")
    if not isinstance(generator, torch.Generator):  # one of several pictures gets seed + 1, ...
        raise RissoleError(f"generator must be one torch.Generator, not {quoted(generator)}")
    fresh = torch.Generator(generator.device).manual_seed(generator.initial_seed())
    untouched = torch.equal(generator.get_state(), fresh.get_state())
    drawn = int(torch.randint(2**32, (), generator=generator, device=generator.device))
    return generator.initial_seed() if untouched else drawn
