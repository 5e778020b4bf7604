"""The audit's answers on a ruleset, each asked for when a test looks at it."""

from __future__ import annotations

from failshut.audit.answer.result import Answer, Result
from failshut.audit.prove import Auditor
from failshut.audit.question.properties import PROPERTIES
from failshut.audit.world import World
from failshut.model.ruleset import Ruleset


class Answers(dict[str, Answer]):
    """Answers by question and family, as in "new-flow4"."""

    def __init__(self, ruleset: Ruleset, world: World) -> None:
        super().__init__()
        self._auditor = Auditor(ruleset, world)

    def __missing__(self, name: str) -> Answer:
        self[name] = self.result(name).answer
        return self[name]

    def result(self, name: str) -> Result:
        """Return an answer with its packets."""
        (question,) = (each for each in PROPERTIES if each.name == name[:-1])
        result = self._auditor.ask(question, int(name[-1]))
        assert result is not None
        return result
