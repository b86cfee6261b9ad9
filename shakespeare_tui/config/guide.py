"""The tuning guide: what one sees, why it may be, and which settings to change."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Remedy:
    """A change to try: ``overrides`` as ``--set`` takes them, and why it helps."""

    overrides: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Symptom:
    """Something that goes wrong in training, how to tell, and remedies in the order to try them."""

    name: str
    signs: str
    remedies: tuple[Remedy, ...]


TUNING_GUIDE: tuple[Symptom, ...] = (
    Symptom(
        "too slow",
        "The time left is longer than you care to wait.",
        (
            Remedy(
                ("training.minutes=2",),
                "Give a time budget: the rate still decays to its end when time is up, which is "
                "worth far more than a longer schedule cut off.",
            ),
            Remedy(
                ("model.n_layers=4", "model.d_model=128", "model.n_heads=4", "model.d_ff=null"),
                "Time for a step grows with layers times width squared; on a CPU more steps of a "
                "small model beat fewer of a large one.",
            ),
            Remedy(
                ("model.max_seq_len=128", "data.seq_len=null"),
                "Attention costs the square of the context; speeches rarely need more.",
            ),
            Remedy(
                ("training.batch_size=16",),
                "On a CPU a step's time grows with the batch, and small batches learn more from "
                "each character.",
            ),
            Remedy(
                ("training.precision=auto",),
                "Takes bfloat16 where this machine gains by it; `doctor` shows the gain.",
            ),
        ),
    ),
    Symptom(
        "quality poor",
        "Training and validation loss are close together and both still high.",
        (
            Remedy(
                ("training.max_steps=10000",),
                "If the loss still falls at the end, train longer before anything else.",
            ),
            Remedy(
                ("training.optimizer=muon", "training.learning_rate=5e-3", "model.qk_norm=true"),
                "Learns more from each step than AdamW, in matrices above all.",
            ),
            Remedy(
                ("model.n_layers=6", "model.d_model=384", "model.n_heads=6", "model.d_ff=null"),
                "A larger model, if there is time for as many steps of it.",
            ),
            Remedy(
                ("model.max_seq_len=256", "data.seq_len=null"),
                "A longer context lets it keep to a speaker, a metre and a subject.",
            ),
            Remedy(
                ("model.dropout=0",),
                "Dropout slows learning, and helps only where a corpus is seen many times.",
            ),
        ),
    ),
    Symptom(
        "overfitting",
        "Training loss falls while validation loss rises, or lies more than a fifth above it.",
        (
            Remedy(
                ("training.patience=5",),
                "Stop when it no longer helps; the best checkpoint is kept in any case.",
            ),
            Remedy(("model.dropout=0.2",), "Makes it hard to memorise the text."),
            Remedy(
                ("training.weight_decay=null",),
                "By the corpus: a tenth of the text wants more than ten times the weight decay.",
            ),
            Remedy(
                ("model.n_layers=4", "model.d_model=256", "model.n_heads=4", "model.d_ff=null"),
                "A smaller model has less room for the text itself.",
            ),
            Remedy(("training.ema_decay=0.999",), "Averaged weights generalise a little better."),
            Remedy(("data.corpus=FILE",), "More text helps more than any of these."),
        ),
    ),
    Symptom(
        "not learning",
        "The loss stays near that of guessing by letter frequency (3.3 on Tiny Shakespeare).",
        (
            Remedy(("training.learning_rate=1e-3",), "The rate may be far too low, or too high."),
            Remedy(
                ("training.warmup_steps=20",),
                "With a long warm-up, a short run ends before it has begun.",
            ),
            Remedy(("training.weight_decay=0.1",), "Too much decay holds the weights at zero."),
        ),
    ),
    Symptom(
        "exploding",
        "The loss jumps up, or becomes NaN.",
        (
            Remedy(
                ("training.learning_rate=3e-4",),
                "Take a third of the rate; under Muon, of muon_learning_rate too.",
            ),
            Remedy(("training.warmup_steps=200",), "The first steps are the most dangerous."),
            Remedy(("training.grad_clip=0.5",), "One bad batch then does less harm."),
            Remedy(("model.qk_norm=true",), "Keeps attention from growing without bound."),
            Remedy(("training.precision=float32",), "Rules out that bfloat16 is too coarse."),
            Remedy(
                ("training.on_nan=rollback",),
                "Goes back to the last evaluated checkpoint by itself and halves the LR.",
            ),
        ),
    ),
    Symptom(
        "out of memory",
        "The run is killed, or the GPU refuses to allocate.",
        (
            Remedy(
                ("training.batch_size=8", "training.grad_accumulation=2"),
                "The same batch in smaller parts: memory halves, the result stays.",
            ),
            Remedy(
                ("model.max_seq_len=128", "data.seq_len=null"),
                "Activations grow with the context.",
            ),
            Remedy(
                ("model.d_model=256", "model.n_heads=4", "model.d_ff=null"),
                "Weights, gradients and optimiser take 16 bytes for each parameter.",
            ),
        ),
    ),
    Symptom(
        "repeats itself",
        "Samples run in circles, though the validation loss is good.",
        (
            Remedy(("sampling.temperature=0.9",), "Low temperatures favour loops."),
            Remedy(
                ("sampling.repetition_penalty=1.1",),
                "Makes recent characters less likely; more than 1.2 garbles the spelling.",
            ),
            Remedy(("sampling.top_p=0.95",), "With a higher temperature, cuts off the absurd."),
        ),
    ),
)
