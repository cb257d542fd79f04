# SPDX-License-Identifier: Apache-2.0
"""What `doctor()` found: a check for each step of the road to the hub, and what follows from them. No I/O.

`examining` walks the road; here are the values, and the judgement which of several findings explains the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from thalovant.diagnoses import STEPS, Diagnosis, Step
from thalovant.hub_endpoints import HubProtocol

__all__ = [
    "CheckStatus",
    "Found",
    "ThalovantDoctorCheck",
    "ThalovantDoctorReport",
    "failed",
    "passed",
    "report_of",
    "skipped",
]

CheckStatus = Literal["ok", "failed", "skipped", "note"]
MARKS: dict[CheckStatus, str] = {"ok": "ok", "failed": "FAILED", "skipped": "-", "note": "note"}


@dataclass(frozen=True)
class ThalovantDoctorCheck:
    """One step of the road. `ok` is False only where something is wrong: a skipped step has found nothing wrong.

    `name` is the step, behind its carrier where it has one ("mqtt tls"); `duration_ms` how long it took. `status` tells
    what `ok` does not: "skipped", because an earlier step failed or it was not wanted, and "note", which is no failure.
    `code` and `advice` are those of the diagnosis.
    """

    name: str
    ok: bool
    detail: str
    duration_ms: float = 0.0
    status: CheckStatus = "ok"
    protocol: HubProtocol | None = None
    code: str | None = None
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class ThalovantDoctorReport:
    """What was found. `identity` is the identity without its secrets.

    `finding` is what is to be mended first, None when all is well; `notes` are worth knowing and wrong with nothing.
    `control_plane` is what a server that one is signed in to says of the credential, None when nobody was asked.
    """

    identity: dict[str, Any]
    checks: tuple[ThalovantDoctorCheck, ...]
    finding: Diagnosis | None = None
    notes: tuple[Diagnosis, ...] = ()
    control_plane: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(check.ok for check in self.checks)

    @property
    def summary(self) -> str:
        """One line: that all is well, or what is wrong and what to do."""
        if self.finding is not None:
            return _one_line(f"{_of(self.checks, self.finding)}{self.finding}")
        if not self.ok:  # pragma: no cover - a failed check has a finding
            return "Something is wrong."
        roads = list(dict.fromkeys(check.protocol for check in self.checks if check.protocol))
        led = f": {_and(roads)} {'lead' if len(roads) > 1 else 'leads'} to the hub"
        return _one_line(" ".join([f"All is well{led if roads else ''}.", *(f"Note: {note}" for note in self.notes)]))

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; `code` is that of the finding."""
        return {
            "ok": self.ok,
            "code": self.finding.code if self.finding else None,
            "summary": self.summary,
            "finding": self.finding.as_dict() if self.finding else None,
            "notes": [note.as_dict() for note in self.notes],
            "identity": self.identity,
            "checks": [check.as_dict() for check in self.checks],
            "control_plane": self.control_plane,
        }

    def format(self) -> str:
        """A table for people, a line a step; the last line is the summary."""
        rows = [(MARKS[check.status], check.name, _took(check), _one_line(check.detail)) for check in self.checks]
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        lines = [
            f"{mark:<{widths[0]}}  {name:<{widths[1]}}  {took:>{widths[2]}}  {detail}".rstrip()
            for mark, name, took, detail in rows
        ]
        return "\n".join([*lines, "", self.summary])


@dataclass(frozen=True)
class Found:
    """One check, and the diagnosis behind it if it failed."""

    check: ThalovantDoctorCheck
    diagnosis: Diagnosis | None = None


def passed(step: Step | str, detail: str, took: float, protocol: HubProtocol | None = None) -> Found:
    """A step that went well; `took` in seconds."""
    return Found(ThalovantDoctorCheck(_name(step, protocol), True, detail, _ms(took), "ok", protocol))


def failed(
    step: Step | str, diagnosis: Diagnosis, took: float, protocol: HubProtocol | None = None, more: str = ""
) -> Found:
    """A step at which something is wrong; `more` is what else is to be seen there."""
    detail = f"{diagnosis.happened} {more}".rstrip()
    name = _name(step, protocol)
    check = ThalovantDoctorCheck(name, False, detail, _ms(took), "failed", protocol, diagnosis.code, diagnosis.advice)
    return Found(check, diagnosis)


def skipped(step: Step | str, why: str, protocol: HubProtocol | None = None) -> Found:
    """A step that was not walked."""
    return Found(ThalovantDoctorCheck(_name(step, protocol), True, why, 0.0, "skipped", protocol))


def noted(name: str, detail: str, took: float = 0.0, code: str | None = None) -> Found:
    """Something worth knowing that is no step of the road, and no failure."""
    return Found(ThalovantDoctorCheck(name, True, detail, _ms(took), "note", None, code))


def report_of(
    identity: dict[str, Any],
    found: Sequence[Found],
    known: Sequence[Diagnosis] = (),
    notes: Sequence[Diagnosis] = (),
    control_plane: dict[str, Any] | None = None,
) -> ThalovantDoctorReport:
    """Put the report together. `known` is what the control plane says is wrong: it explains what only shows here."""
    shown = [one.diagnosis for one in found if one.diagnosis is not None]
    finding = min([*known, *shown], key=_depth, default=None) if shown else None
    return ThalovantDoctorReport(identity, tuple(one.check for one in found), finding, tuple(notes), control_plane)


def _depth(diagnosis: Diagnosis) -> int:
    return STEPS.index(diagnosis.step)


def _of(checks: Sequence[ThalovantDoctorCheck], finding: Diagnosis) -> str:
    """The carriers that have it, where others of the identity's are well."""
    roads = {check.protocol for check in checks if check.protocol}
    named = list(dict.fromkeys(check.protocol for check in checks if check.protocol and not check.ok))
    same = {check.protocol for check in checks if check.code == finding.code and check.protocol}
    shown = [road for road in named if road in same] or named
    return f"{_and(shown)}: " if shown and len(named) < len(roads) else ""


def _name(step: str, protocol: HubProtocol | None) -> str:
    return f"{protocol} {step}" if protocol else step


def _took(check: ThalovantDoctorCheck) -> str:
    return f"{check.duration_ms:.1f} ms" if check.duration_ms else ""


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _one_line(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
