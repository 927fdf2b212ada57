"""SIGKILLs one process at random every second or so, and starts it again."""

import random
import threading
import time

from .yard import Yard


class Killer:
    """A thread that kills from `start` until `stop`; what it did is in `kills`."""

    def __init__(self, yard: Yard, seed: int, every_s: tuple[float, float] = (0.7, 1.3)):
        self.kills = 0
        self._yard = yard
        self._random = random.Random(seed)
        self._every_s = every_s
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raises what went wrong in the thread: above all, a process that had died by itself."""
        if self._error:
            raise AssertionError(f"the killer found: {self._error}") from self._error

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._random.uniform(*self._every_s)):
                self._kill_one()
        except BaseException as error:  # handed on by `check`
            self._error = error

    def _kill_one(self) -> None:
        dead = [process.name for process in self._yard.processes if not process.alive()]
        assert not dead, f"{dead} ended without having been killed"
        victim = self._random.choice(self._yard.processes)
        victim.kill()
        self.kills += 1
        time.sleep(self._random.uniform(0, 0.3))
        victim.start()
