"""What is seen of a training while it runs, and what is noted of its losses."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from tqdm import tqdm

from rissole.training.budget import Session
from rissole.training.checkpoint import History
from rissole.training.together import rank


class Progress:
    """A progress bar that shows running means of what steps report.

    Args:
        session: that is followed.
        title: of the bar.
        every: steps that a mean is taken over.
        history: means of earlier steps, to be added to.
    """

    def __init__(self, session: Session, title: str, every: int, history: History):
        self.session, self.every, self.history = session, every, history
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        shape = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"
        done = min(1000, int(session.progress * 1000))
        self.bar = tqdm(
            total=1000, initial=done, desc=title, bar_format=shape, mininterval=2,
            disable=rank() > 0,
        )  # fmt: skip

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def report(self, values: Mapping[str, Tensor]) -> None:
        """Adds the losses of the session's last step; shows their means now and then.

        On an accelerator that waits for it.
        """
        self.bar.update(min(1000, int(self.session.progress * 1000)) - self.bar.n)
        self.count += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        if self.session.step % self.every == 0:
            means = {name: float(total) / self.count for name, total in self.sums.items()}
            self.history.append({"step": self.session.step - 1, **means})
            shown = " ".join(f"{name} {mean:.4g}" for name, mean in means.items())
            self.bar.set_postfix_str(f"step {self.session.step - 1} {shown}")
            self.sums, self.count = {}, 0
