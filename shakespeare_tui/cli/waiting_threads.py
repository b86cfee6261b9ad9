"""How torch's threads share the processor with everything else."""

import os


def let_threads_sleep_soon() -> None:
    """Set how long torch's threads wait for one another before they sleep; before torch is loaded.

    By default GNU OpenMP has them wait busily for milliseconds. Where others want the cores too, a
    waiting thread then keeps the very core that the thread it waits for would run on: beside three
    busy processes, a step of two threads takes 2.6 times as long as it does this way. With nothing
    beside, this costs nothing; with a fifth of it, waking up costs a tenth of a small step.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "5000"
