"""How torch's threads share the processor with everything else."""

import os


def let_threads_sleep_soon() -> None:
    """Set how long torch's threads wait for one another before they sleep; before torch is loaded.

    By default GNU OpenMP has them wait busily for milliseconds. Where another program, or another
    part of this one, wants a core, a waiting thread then keeps the core that the thread it waits
    for would run on: a training step of two threads took 20 to 60 times as long beside one busy
    process, and takes twice as long this way. With nothing beside, it makes no difference.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "1000"
