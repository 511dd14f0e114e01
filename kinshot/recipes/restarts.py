"""What a recipe may set of proximal restarts; free of torch, so that recipes are checked without it."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class RestartSettings:
    """Proximal restarts: a run as a row of problems, each of which stays near the weights that it began with.

    A problem ends after `every` epochs, or by `patience`; one of them says that there are restarts.

    Args:
        every: epochs of a problem, which the next one begins where it stands; 0 for none.
        patience: a problem ends when so many epochs, one after the other, brought no better MAP@R than the best so far, on the classes of
            `validation.split` or, without one, on samples of the training set; the next one begins with the best weights. 0 for none.
        penalty: lambda, of lambda / 2 |weights - weights at the problem's beginning|^2; the first problem has none.
        pool: samples of each class of which its rows (proxies, class weights) are chosen anew, farthest first; 0 leaves rows as they are.
    """

    every: int = 0
    patience: int = 0
    penalty: float = 2e-4
    pool: int = 12

    @property
    def wanted(self) -> bool:
        """Whether there are restarts."""
        return bool(self.every or self.patience)


def check_restarts(settings: RestartSettings) -> list[str]:
    """Every setting out of range, and what does not go together, as messages that begin with its name."""
    s, problems = settings, []
    for name, largest in (("every", 10**7), ("patience", 10**7), ("pool", 10**6)):
        if not 0 <= getattr(s, name) <= largest:
            problems.append(f"restarts.{name}: expected a number from 0 to {largest}, got {getattr(s, name)}")
    if not 0 <= s.penalty < float("inf"):
        problems.append(f"restarts.penalty: expected a number from 0, got {s.penalty}")
    if s.every and s.patience:
        problems.append(
            f"restarts.every and restarts.patience: a problem ends after so many epochs or when it stands still, got {s.every} and "
            f"{s.patience}: leave one out"
        )
    idle = [f"restarts.{name}" for name, value in asdict(s).items() if value != getattr(RestartSettings, name)]
    if idle and not s.wanted:
        problems.append(f"{', '.join(idle)}: nothing says when to restart: set restarts.every or restarts.patience, or leave it out")
    return problems
