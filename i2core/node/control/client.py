"""The client of the daemon of this host, over its control socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

from i2core.api import Code, I2Error, UsageError
from i2core.config.words import bilingual
from i2core.node.control.socket_path import SOCKET, short_path

TIMEOUT_S = 30.0
"""Long enough for a rule that is stopped and flushes its records first."""
_LONG_S = 600.0
_TASK_S = 1.0


class ControlClient:
    """A method for each call of the control API. All raise the `I2Error` of the daemon's answer."""

    def __init__(self, path: str, where: str) -> None:
        self._path = path
        self._where = where

    def status(self) -> dict[str, Any]:
        """The node itself."""
        found: dict[str, Any] = self._call("GET", "/v1/status")
        return found

    def rules(self) -> list[dict[str, Any]]:
        """All rules that the node sends or receives."""
        found: list[dict[str, Any]] = self._call("GET", "/v1/rules")
        return found

    def act(self, name: str, action: str, *, compare: bool = False) -> bool:
        """``start``, ``stop``, ``release`` or ``forget`` of a rule; False when there was nothing to do. `compare`: see
        `RunningNode.start`."""
        asked = "?compare=1" if compare else ""
        return bool(self._call("POST", f"/v1/rules/{quote(name, safe='')}/{action}{asked}")["done"])

    def hand_over(self, name: str, heir: str) -> bool:
        """Allows the rule `heir` (``PEER/RULE``) to take the targets of a received one; False if it was never
        received."""
        path = f"/v1/rules/{quote(name, safe='')}/hand-over?{urlencode({'to': heir})}"
        return bool(self._call("POST", path)["done"])

    def events(
        self, after: int | None = None, *, wait_s: float = 0.0, limit: int = 500, rule: str | None = None
    ) -> dict[str, Any]:
        """A page of the log, as ``GET /v1/events`` answers it; waits up to `wait_s` seconds while it is empty."""
        asked = {"after": after, "wait": int(wait_s), "limit": limit, "rule": rule}
        query = urlencode({key: value for key, value in asked.items() if value is not None})
        found: dict[str, Any] = self._call("GET", f"/v1/events?{query}", timeout_s=TIMEOUT_S + wait_s)
        return found

    def history(self, name: str) -> dict[str, Any]:
        """Which moments of a received rule can be had, and the room that they take."""
        found: dict[str, Any] = self._call("GET", self._past(name))
        return found

    def history_log(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """A page of its log. `asked`: as the API has it; None: not asked for."""
        found: dict[str, Any] = self._call("GET", self._past(name, "log", asked))
        return found

    def history_changes(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What differs between two moments."""
        found: dict[str, Any] = self._call("GET", self._past(name, "changes", asked), timeout_s=_LONG_S)
        return found

    def file_versions(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The versions of one file. `asked`: as the API has it; None: not asked for."""
        found: dict[str, Any] = self._call("GET", self._past(name, "versions", asked), timeout_s=_LONG_S)
        return found

    def file_content(self, name: str, oid: int, seq: int) -> Iterator[bytes] | None:
        """The content of one version, piece by piece; None: the file was not there."""
        first = self._content(name, oid, seq, 0)
        return None if first is None else self._pieces(name, oid, seq, first)

    def _pieces(self, name: str, oid: int, seq: int, piece: bytes) -> Iterator[bytes]:
        offset = 0
        while piece:
            yield piece
            offset += len(piece)
            piece = self._content(name, oid, seq, offset) or b""

    def _content(self, name: str, oid: int, seq: int, offset: int) -> bytes | None:
        path = self._past(name, "content", {"object": oid, "seq": seq, "offset": offset})
        status, answer = self._exchange("GET", path, timeout_s=_LONG_S)
        if status == HTTPStatus.NOT_FOUND and not answer:
            return None
        return answer if status == HTTPStatus.OK else _fail(status, answer, path, self._where)

    def verify_history(self, name: str) -> int:
        """Begins to prove its journal; the number of the task."""
        return int(self._call("POST", self._past(name, "verify"))["task"])

    def trim_plan(self, name: str, before: str) -> dict[str, Any]:
        """What would be given up of its history, all before a moment."""
        found: dict[str, Any] = self._call("GET", self._past(name, "trim", {"before": before}), timeout_s=_LONG_S)
        return found

    def trim(self, name: str, before_seq: int) -> int:
        """Begins to give that up; the number of the task."""
        body = json.dumps({"before_seq": before_seq})
        return int(self._call("POST", self._past(name, "trim"), body=body, timeout_s=_LONG_S)["task"])

    def begin_rewind(self, name: str, asked: Mapping[str, Any]) -> int:
        """Begins to turn its replica back, or to plan that; the number of the task. `asked`: as the API has it."""
        path = f"/v1/rules/{quote(name, safe='')}/rewinds"
        return int(self._call("POST", path, body=json.dumps(asked), timeout_s=_LONG_S)["task"])

    def begin_recovery(self, name: str, asked: Mapping[str, Any]) -> int:
        """Begins a recovery, or the plan of one; the number of the task. `asked`: as the API has it."""
        path = f"/v1/rules/{quote(name, safe='')}/recoveries"
        return int(self._call("POST", path, body=json.dumps(asked), timeout_s=_LONG_S)["task"])

    def mount(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Mounts a moment of a received rule: {"task", "moment", "seq"}. `asked`: as the API has it."""
        path = f"/v1/rules/{quote(name, safe='')}/mounts"
        found: dict[str, Any] = self._call("POST", path, body=json.dumps(asked), timeout_s=_LONG_S)
        return found

    def recoveries(self, name: str) -> list[dict[str, Any]]:
        """The recoveries of a received rule that were tried, the latest first."""
        found: list[dict[str, Any]] = self._call("GET", f"/v1/rules/{quote(name, safe='')}/recoveries")
        return found

    def begin_compare(self, name: str, asked: Mapping[str, Any]) -> int:
        """Begins a compare of a rule; the number of the task. `asked`: as the API has it."""
        return int(self._call("POST", self._compares(name), body=json.dumps(asked))["task"])

    def compares(self, name: str) -> list[dict[str, Any]]:
        """The compares of a rule that are remembered, the latest first."""
        found: list[dict[str, Any]] = self._call("GET", self._compares(name))
        return found

    def compared(self, name: str, number: int, asked: Mapping[str, Any]) -> dict[str, Any]:
        """A page of what a compare has found: {"task", "items", "after"}. `asked`: as the API has it."""
        query = urlencode({key: value for key, value in asked.items() if value is not None})
        found: dict[str, Any] = self._call("GET", f"{self._compares(name)}/{number}?{query}")
        return found

    def orphans(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """A page of a directory's orphans: {"compared", "compared_ns", "items", "after"}. `asked`: as the API has
        it."""
        query = urlencode({key: value for key, value in asked.items() if value is not None}, errors="surrogateescape")
        path = f"/v1/rules/{quote(name, safe='')}/orphans?{query}"
        found: dict[str, Any] = self._call("GET", path, timeout_s=_LONG_S)
        return found

    def remove_orphans(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Begins to remove orphans: {"task", "orphans", "bytes"}. `asked`: as the API has it."""
        path = f"/v1/rules/{quote(name, safe='')}/orphans/remove"
        found: dict[str, Any] = self._call("POST", path, body=json.dumps(asked), timeout_s=_LONG_S)
        return found

    def fetch(self, name: str, asked: Mapping[str, Any]) -> int:
        """Begins to fetch objects of a received rule; the number of the task. `asked`: as the API has it."""
        path = f"/v1/rules/{quote(name, safe='')}/fetches"
        return int(self._call("POST", path, body=json.dumps(asked))["task"])

    def scrub(self, name: str) -> dict[str, Any]:
        """How far a rule is proved equal: {"proved_at", "held_back", "scrub", "held"}."""
        found: dict[str, Any] = self._call("GET", f"/v1/rules/{quote(name, safe='')}/scrub")
        return found

    def act_on_scrub(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Accepts files of the source, begins a pass: {"accepted", "begun"}. `asked`: as the API has it."""
        path = f"/v1/rules/{quote(name, safe='')}/scrub"
        found: dict[str, Any] = self._call("POST", path, body=json.dumps(asked))
        return found

    @staticmethod
    def _compares(name: str) -> str:
        return f"/v1/rules/{quote(name, safe='')}/compares"

    def snapshots(self, name: str, *, space: bool = False) -> list[dict[str, Any]]:
        """The snapshots of a received rule, oldest first. `space`: the room of each is measured."""
        asked = "?space=1" if space else ""
        path = f"/v1/rules/{quote(name, safe='')}/snapshots{asked}"
        found: list[dict[str, Any]] = self._call("GET", path, timeout_s=_LONG_S)
        return found

    def create_snapshot(self, name: str, tag: str = "") -> int:
        """Begins to take one; the number of the task."""
        path = f"/v1/rules/{quote(name, safe='')}/snapshots"
        return int(self._call("POST", path, body=json.dumps({"tag": tag}))["task"])

    def remove_snapshot(self, name: str, number: int) -> bool:
        """Removes one; False when it was removed before."""
        path = f"/v1/rules/{quote(name, safe='')}/snapshots/{number}/remove"
        return bool(self._call("POST", path, timeout_s=_LONG_S)["done"])

    @staticmethod
    def _past(name: str, word: str = "", asked: Mapping[str, Any] | None = None) -> str:
        given = {key: value for key, value in (asked or {}).items() if value is not None}
        query = urlencode(given, errors="surrogateescape")
        path = f"/v1/rules/{quote(name, safe='')}/history{'/' if word else ''}{word}"
        return f"{path}?{query}" if query else path

    def tasks(self) -> list[dict[str, Any]]:
        """All long operations that are remembered, oldest first."""
        found: list[dict[str, Any]] = self._call("GET", "/v1/tasks")
        return found

    def task(self, number: int, *, wait_s: float = 0.0) -> dict[str, Any]:
        """One of them; waits up to `wait_s` seconds for its end."""
        found: dict[str, Any] = self._call(
            "GET", f"/v1/tasks/{number}?wait={int(wait_s)}", timeout_s=TIMEOUT_S + wait_s
        )
        return found

    def await_task(self, number: int, report: Callable[[dict[str, Any]], None] = lambda task: None) -> dict[str, Any]:
        """The result of a task, when it has ended; it is reported every now and then meanwhile.

        Raises:
            I2Error: it has failed, or was cancelled or interrupted.
        """
        task = self.task(number)
        while task["state"] == "running":
            report(task)
            task = self.task(number, wait_s=_TASK_S)
        if task["state"] == "failed":
            raise error_of(task["error"])
        if task["state"] != "done":
            raise I2Error(
                bilingual("the task was ended before it was done", "任务在完成之前被结束"),
                code=Code.TASK_INTERRUPTED,
                obj=str(number),
            )
        result: dict[str, Any] = task["result"]
        return result

    def cancel_task(self, number: int) -> bool:
        """Asks it to end; False when it had ended."""
        return bool(self._call("POST", f"/v1/tasks/{number}/cancel")["done"])

    def reread_peers(self) -> dict[str, list[str]]:
        """Makes the daemon load the changed peer book; returns the names gained and lost."""
        found: dict[str, list[str]] = self._call("POST", "/v1/peers/reread")
        return found

    def _call(self, method: str, path: str, *, body: str | None = None, timeout_s: float = TIMEOUT_S) -> Any:
        status, answer = self._exchange(method, path, body=body, timeout_s=timeout_s)
        return json.loads(answer) if status == HTTPStatus.OK else _fail(status, answer, path, self._where)

    def _exchange(self, method: str, path: str, *, body: str | None = None, timeout_s: float) -> tuple[int, bytes]:
        try:
            with closing(_UnixConnection(self._path, timeout_s)) as connection:
                connection.request(method, path, body)
                response = connection.getresponse()
                return response.status, response.read()
        except PermissionError as error:
            raise _forbidden(self._where) from error
        except (OSError, HTTPException) as error:
            raise I2Error(
                bilingual(f"no daemon answers here ({error})", f"没有守护进程应答（{error}）"),
                code=Code.NETWORK,
                obj=self._where,
                next_step=bilingual(
                    "start it with i2 node run, or name its config with --config",
                    "请用 i2 node run 启动，或用 --config 指定其配置",
                ),
            ) from error


def _fail(status: int, answer: bytes, path: str, where: str) -> NoReturn:
    """Raises the error that the daemon has answered."""
    try:
        fault = json.loads(answer)
    except ValueError:
        raise I2Error(
            bilingual(f"the daemon answered {status} to {path}", f"守护进程对 {path} 应答 {status}"), obj=where
        ) from None
    raise error_of(fault)


def error_of(fault: Mapping[str, Any]) -> I2Error:
    """The error that a daemon has told."""
    kind, code = UsageError if fault["exit_code"] == UsageError.exit_code else I2Error, Code(fault["code"])
    # The printer of an error adds the code's text; a cause without Chinese text has it in front already.
    cause = bilingual(fault["message"], fault["message_zh"].removeprefix(f"{code.text.zh}："))
    return kind(cause, code=code, obj=fault["object"], next_step=bilingual(fault["next"], fault["next_zh"]))


class _UnixConnection(HTTPConnection):
    """HTTP over the Unix socket at `path`; each step may take `timeout_s` seconds."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("i2", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@contextmanager
def control_client(state_dir: Path) -> Iterator[ControlClient]:
    """A client of the daemon with this state directory.

    Raises:
        I2Error: there is no such directory, or it belongs to another user.
    """
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(short_path(state_dir))
        except PermissionError as error:
            raise _forbidden(str(state_dir)) from error
        except OSError as error:
            raise I2Error(
                bilingual(f"no daemon has run here ({error.strerror})", f"此处未运行过守护进程（{error.strerror}）"),
                code=Code.NETWORK,
                obj=str(state_dir),
                next_step=bilingual(
                    "start it with i2 node run, or name its config with --config",
                    "请用 i2 node run 启动，或用 --config 指定其配置",
                ),
            ) from error
        yield ControlClient(f"{directory}/{SOCKET}", str(state_dir))


def _forbidden(where: str) -> UsageError:
    return UsageError(
        bilingual("this user may not use the daemon here", "当前用户无权访问此处的守护进程"),
        obj=where,
        next_step=bilingual("run the command as the daemon's user (sudo)", "请以守护进程的用户身份执行（sudo）"),
    )
