"""Every key of a run but those of single methods, with its meaning and default; `--help` prints it.

A method declares its own keys in its file: `config.kind` makes them a section under the method's name.

Sizes of memory are strings with a unit ("24 GiB", "900 KiB"); `config.units.parse_bytes` reads them.
"""

# ruff: noqa: RUF009  (key and section return dataclass fields)

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from zorba_ray.config.published import PUBLISHED


def key(default: Any, help: str, choices: Sequence[str] = ()) -> Any:
    """A config key: its default, its meaning, and the values that it (or each of its entries) may take, if few."""
    metadata = {"help": help, "choices": choices}
    if isinstance(default, list):
        return field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(kind: type, help: str) -> Any:
    """A nested group of keys."""
    return field(default_factory=kind, metadata={"help": help, "choices": ()})


@dataclass
class BudgetClass:
    name: str = key("medium", "name of the class, for tables and pictures")
    share: float = key(1.0, "share of the clients in this class; shares are normalised")
    budget: str = key("", "VRAM of one client of this class, such as '24 GiB'")


THREE_CLASSES = [
    BudgetClass("small", 0.4, "900 KiB"),
    BudgetClass("medium", 0.4, "1280 KiB"),
    BudgetClass("large", 0.2, "1880 KiB"),
]


@dataclass
class BudgetsConfig:
    classes: list[BudgetClass] = key(THREE_CLASSES, "classes of equal budget, with shares")
    explicit: list[str] = key([], "one budget per client, in client order; instead of classes")
    median: str = key("", "median of a log-normal distribution of budgets; instead of classes")
    sigma: float = key(0.5, "standard deviation of the logarithm of that distribution")
    context: str = key("0 MiB", "of every budget, what the CUDA context takes; a run on GPUs says what it is there")
    levels: int = key(10, "budgets drawn from the distribution are rounded down to this many quantile levels")


@dataclass
class ClientsConfig:
    count: int = key(20, "number of clients")
    batch: int = key(8, "examples in one client's mini-batch")
    fuse: str = key(
        "1", "how many clients that have the same blocks active and share directions have their mini-batches evaluated "
        "in one product, padded to a common length, where an actor carries many clients: a number, or auto: chosen for "
        "the hardware and kept. Equal to rounding between numbers, to the bit for one",
    )
    partition: str = key(
        "dirichlet", "how the training data is dealt out: labels unevenly, alike, by a column, sizes unevenly, some "
        "labels each, pieces of the data sorted by label",
        ("dirichlet", "iid", "natural", "quantity", "classes", "sorted"),
    )  # fmt: skip
    alpha: float = key(
        1.0, "concentration of the Dirichlet distribution over labels (dirichlet) or sizes (quantity); small is "
        "heterogeneous",
    )  # fmt: skip
    pieces: int = key(2, "labels that a client has (classes), or pieces of the sorted data (sorted)")
    partition_column: str = key("", "column of the data that names the client, for partition=natural")
    budgets: BudgetsConfig = section(BudgetsConfig, "VRAM budgets of the clients")

    @property
    def fused(self) -> int:
        """That number; 1 as long as auto is not settled."""
        return 1 if self.fuse == "auto" else int(self.fuse)


@dataclass
class ParticipationConfig:
    clients: str = key("all", "clients of a round: all, a number, or a share such as '10 %'")
    choice: str = key(
        "uniform", "how they are drawn: each alike, likelier with more samples (both without replacement), or every "
        "client by itself with probability `clients` (poisson)", ("uniform", "samples", "poisson"),
    )
    availability: str = key(
        "always", "who can be chosen: everybody, each with probability `available`, on and off in stretches of mean "
        "length `up` and `down`, or as a trace file says", ("always", "random", "markov", "trace"),
    )
    available: float = key(0.8, "probability that a client is available in a round, for availability=random")
    up: float = key(10.0, "mean rounds for which a client stays available, for availability=markov")
    down: float = key(5.0, "mean rounds for which it then is away")
    trace: str = key("", "file (jsonl or csv) of client, from, to, for availability=trace")
    trace_unit: str = key("rounds", "unit of from and to: rounds, or seconds of the virtual clock",
                          ("rounds", "seconds"))
    dropout: float = key(0.0, "probability that a chosen client downloads and then never reports")
    over: float = key(0.0, "choose this share of clients more than wanted, and count those who report first")
    deadline: float = key(0.0, "virtual seconds after which a report is late; 0: none")
    late: str = key("drop", "late reports: lost, or kept for the round in which they arrive", ("drop", "keep"))


@dataclass
class Device:
    budget: str = key("", "budget class whose clients have this device; empty: all that no other entry names")
    forward: float = key(0.0, "speed of forward passes in FLOP/s")
    backward: float = key(0.0, "speed of backward passes in FLOP/s; 0: that of forward passes")
    up: float = key(0.0, "upload in bits/s; 0: takes no time")
    down: float = key(0.0, "download in bits/s; 0: takes no time")
    bus: float = key(0.0, "between the device and its host's memory in bits/s, beside computing; 0: takes no time")
    latency: float = key(0.0, "seconds that a client-round waits for the network whatever its size")


@dataclass
class FleetConfig:
    devices: list[Device] = key([], "what clients compute and send with; empty: no virtual clock")
    spread: float = key(0.0, "standard deviation of the logarithm of each client's speed and link, fixed for the run")
    jitter: float = key(0.0, "the same, anew for every client and round")


@dataclass
class FaultsConfig:
    min_clients: int = key(1, "stop when reports were left out and fewer than this many remain in a round")
    outlier: float = key(0.0, "exclude clients whose scalars lie this many deviations from the others'; 0: none")
    byzantine: float = key(0.0, "share of clients that lie in every report, for studies")
    lie: str = key("sign_flip", "what liars send: minus the truth, a multiple of it, noise of its size, or NaN",
                   ("sign_flip", "scale", "random", "nan"))
    lie_scale: float = key(10.0, "that multiple, for lie=scale")


@dataclass
class PrivacyConfig:
    noise: float = key(0.0, "noise multiplier σ: Gaussian noise of σ·clip on sums of clients' scalars; 0: off")
    clip: float = key(1.0, "largest norm C of a client's scalars in a round; longer ones are scaled down")
    delta: float = key(1e-5, "δ of the (ε, δ) that is accounted")


@dataclass
class LoraConfig:
    rank: int = key(8, "rank of the adapters")
    alpha: float = key(16.0, "scale numerator: the adapter is added with alpha / rank")
    targets: list[str] = key([], "names of the adapted linear modules; empty: the attention projections")


@dataclass
class ModelConfig:
    path: str = key("embedded", "'embedded', a local folder, or a hub name")
    config: str = key(
        "", "instead of `path`, a published shape with random weights drawn by the seed, and with the words of the "
        f"task's text as tokens: {', '.join(PUBLISHED)}; empty: the model at `path`",
    )
    revision: str = key("", "hub revision; empty: the default branch")
    trust_remote_code: bool = key(False, "run code that comes with the model; off unless you trust its author")
    precision: str = key(
        "float32", "type of the evaluated weights; master weights, norms, biases and the loss stay float32. auto: "
        "bfloat16 where the hardware multiplies it and `rounding` is kept, which is measured before round 0",
        ("float32", "bfloat16", "float16", "auto"),
    )
    rounding: float = key(0.05, "of the variance that mini-batches give the scalars, the share that few bits may add: "
                                "beyond it auto takes float32, and a run in few bits is warned about")
    trainable: str = key("full", "what a block trains: all its weights, LoRA adapters, or parameters matching `groups`",
                         ("full", "lora", "groups"))
    groups: list[str] = key([], "regular expressions of parameter names, for trainable=groups")
    stem: bool = key(False, "make the embeddings a block of their own (with a tied head: one block visited twice)")
    head: bool = key(False, "make final norm and output projection a block of their own")
    active: str = key(
        "resident", "where a client keeps a block that it tunes: on the GPU, or streamed in when its turn comes (not "
        "with gradients)", ("resident", "offload"),
    )
    frozen: str = key(
        "offload", "where a client keeps a block that it does not tune: on the GPU, streamed in when its turn comes "
        "(not with gradients: then as resident), or on the GPU in few bits (which changes the loss a little); with "
        "adapters, likewise all weights under them: nf4 is QLoRA",
        ("resident", "offload", "int8", "nf4"),
    )
    streaming: str = key(
        "single", "buffers through which versions of blocks are shown: one, or two, and while one block is computed "
        "with, the next is brought to the other and perturbed there, on a CUDA stream of its own",
        ("single", "double"),
    )
    lora: LoraConfig = section(LoraConfig, "adapters, for trainable=lora")

    @property
    def called(self) -> str:
        """What names the model."""
        return self.config or self.path


@dataclass
class TaskConfig:
    name: str = key("embedded", "'embedded', the name of a known task, or 'files' for your own data")
    train: str = key("", "training data: local file (tsv, csv, jsonl, parquet, .gz) or hub data set, for name=files")
    test: str = key("", "test data, likewise")
    text: list[str] = key([], "columns of the text, in the order of the prompt")
    label: str = key("label", "column of the label")
    labels: list[str] = key([], "values of that column, in the order of `words`; empty: the task's own numbers or "
                                "names, and of your own data those found, numbers by size, texts by the alphabet")
    answer: str = key("", "of your own data, the column of an answer to be generated, instead of a label; empty: none")
    generate: int = key(16, "most tokens of a generated answer, and of one that is trained on")
    score: str = key("f1", "how generated answers to your own data are judged beside exact match: F1 of words, or "
                           "Rouge-L", ("f1", "rouge_l"))
    prompt: str = key("", "prompt with {column} fields, e.g. '{text} It was'; empty: the task's own")
    words: list[str] = key([], "label words (causal model) or label sentences (encoder), one per label")
    loss: str = key("label_words", "cross-entropy over the label words only, or over the whole vocabulary",
                    ("label_words", "vocabulary"))
    max_tokens: int = key(128, "longest example in tokens; longer texts are cut, never the prompt's end")
    train_examples: int = key(0, "use at most this many training examples, drawn by the seed; 0: all. The embedded "
                              "task makes as many as asked")
    per_class: int = key(0, "of each label this many training examples, drawn by the seed (few-shot); 0: all")
    test_examples: int = key(0, "use at most this many test examples, drawn by the seed; 0: all")
    validation_examples: int = key(0, "training examples set aside for choosing hyper-parameters; no client has them")


@dataclass
class ZeroOrderConfig:
    directions: int = key(4, "directions per round, P")
    mu: float = key(1e-3, "perturbation radius, μ")
    noise: str = key("gaussian", "distribution of the directions, unit variance", ("gaussian", "rademacher"))
    shared: bool = key(True, "all clients share a round's directions; false: each client has its own")
    estimator: str = key("central", "two-sided (L₊ − L₋)/2μ, or one-sided (L₊ − L₀)/μ", ("central", "forward"))
    local_steps: int = key(1, "steps that a client does by itself in a round, each on a mini-batch of its own")


@dataclass
class StepConfig:
    lr: float = key(3e-3, "learning rate, η")
    schedule: str = key("constant", "how η moves over the rounds", ("constant", "linear", "cosine"))
    warmup: int = key(0, "rounds of linear warm-up from 0 to η")
    final: float = key(0.0, "what linear and cosine end at, as a share of η")
    weights: str = key("samples", "a client's weight in the average", ("samples", "equal"))
    normalise: str = key(
        "participants", "what a sum over a round's clients is divided by: their own weight, or what it is on average",
        ("participants", "expected"),
    )
    aggregate: str = key("mean", "how clients' scalars become one", ("mean", "median", "trimmed", "clipped"))
    trim: float = key(0.1, "share of the weight that is cut from each end, for aggregate=trimmed")
    clip_norm: float = key(1.0, "longest vector of a client's scalars, for aggregate=clipped")


@dataclass
class AllocationConfig:
    plan: str = key("zorba", "who chooses the blocks",
                    ("zorba", "full", "random", "cyclic", "greedy", "top", "bottom", "one_each", "given"))
    rows: list[str] = key([], "for plan=given: a text of 0 and 1 for each client, a digit for each block; clients "
                          "beyond the last row begin again at the first")
    order: list[str] = key(["convergence", "vram", "compute"], "objectives in lexicographic order",
                           ("convergence", "vram", "compute"))
    epsilon: list[float] = key([0.05, 0.05, 0.05], "slack granted to each level by the next ones")
    epsilon_kind: str = key("relative", "meaning of epsilon", ("relative", "absolute"))
    coverage: int = key(-1, "least number of clients that tune each block, m_min; -1: one, but for blocks that the "
                        "budgets have no room for")
    coverage_per_block: list[int] = key([], "m_min of each block, instead of `coverage`")
    vram: str = key("total", "VRAM objective: total over clients, or the worst relative use", ("total", "worst"))
    gradient: list[float] = key([], "squared gradient norm G of each block; one number: of all; empty: 1")
    batch_variance: list[float] = key([], "mini-batch variance σ² of each block; one number: of all; empty: 1")
    client_variance: list[float] = key([], "between-client variance ζ² of each block; one number: of all; empty: 1")
    smoothness: list[float] = key(
        [1e-3], "smoothness Λ of each block, curvature per trainable number; one number: of all"
    )
    horizon: float = key(1.0, "share of the way to what a plan can reach that the run is to go, 0 to 1: what a plan "
                         "that stays loses to the clients that it leaves out counts so much")
    statistics: str = key(
        "given", "where G, σ², ζ² and Λ come from: this config, or scalars of probes of single blocks",
        ("given", "estimated"),
    )
    probe_clients: int = key(8, "clients that probe single blocks for the statistics, drawn uniformly")
    probe_directions: int = key(8, "directions of each of those probes")
    every: int = key(0, "allocate anew every this many rounds, with statistics of that moment; 0: once")
    rotate: bool = key(False, "rotate the plan among clients of equal budget")
    formulation: str = key(
        "auto", "program by client × block, or by classes of equal budget; auto: whichever is smaller",
        ("auto", "direct", "classes"),
    )
    time_limit: float = key(30.0, "seconds for each level of the program")
    mip_gap: float = key(1e-3, "relative gap at which the solver may stop")


@dataclass
class EvaluationConfig:
    data: str = key("test", "what is evaluated on: the test data, or what task.validation_examples sets aside",
                    ("test", "validation"))
    every: int = key(10, "evaluate on the test data every this many rounds, and after the last")
    examples: int = key(0, "test examples per evaluation, the same every time: drawn by the seed, from each label (or "
                             "group, where the test data has them) its share; 0: all")
    batch: int = key(64, "examples in one evaluation batch")


@dataclass
class CheckpointConfig:
    every: int = key(200, "rounds between snapshots of the weights, from which a resumed run goes on; 0: none, it "
                          "replays the ledger")
    keep: int = key(2, "snapshots that are kept, the newest")
    tensors: int = key(0, "of a method with gradients, rounds whose tensors stay on disk; older ones go with the "
                          "snapshot that makes them dispensable. 0: all, and any round can be replayed")


@dataclass
class GuardConfig:
    loss_multiple: float = key(4.0, "stop when the mean loss exceeds this multiple of the first round's")
    collapse: str = key(
        "warn", "once an evaluation is no better than one answer for all (the commonest label's accuracy, the labels' "
        "entropy as loss), and an earlier one was: say so, stop, or nothing", ("warn", "stop", "off"),
    )


@dataclass
class StopConfig:
    accuracy: float = key(0.0, "test accuracy, 0 to 1, at which an evaluation ends the run; 0: none")
    loss: float = key(0.0, "test loss at or below which an evaluation ends the run; 0: none")
    bytes: str = key("", "bytes of all clients, up and down, after which a round is the last, such as '10 MiB'; "
                         "empty: any number")
    flops: float = key(0.0, "FLOPs of all clients, forward and backward, after which a round is the last; 0: any")
    seconds: float = key(0.0, "seconds of the virtual clock (fleet.devices) after which a round is the last; 0: any")


@dataclass
class RuntimeConfig:
    address: str = key("local", "Ray cluster: 'local' starts one here, 'auto' joins a running one, or ray://host:port")
    actors: int = key(0, "client actors in cohort placement; 0: one per CPU core (or GPU)")
    cpus: int = key(0, "CPU cores of the cluster that the run may use; 0: all")
    gpus: int = key(0, "GPUs that the run uses, and waits for until the cluster has them; 0: all that there are")
    patience: float = key(600.0, "seconds after which the run gives up on room that does not come, and takes an actor "
                                 "that stands still for dead")
    threads: int = key(1, "threads of one actor; 1 keeps the ledger bit-equal over placements on CPUs")
    device: str = key("auto", "where clients compute", ("auto", "cpu", "cuda"))
    hidden_memory: str = key("256 MiB", "most memory that one actor may hold in hidden states; work is chunked to fit")
    on_fault: str = key(
        "recompute", "when an actor dies or raises: compute its clients again elsewhere, or drop them from the round",
        ("recompute", "drop"),
    )


@dataclass
class Config:
    name: str = key("run", "name of the run; its folder is runs/NAME-TIME")
    seed: int = key(0, "seed of everything random, 0 to 2^64 − 1")
    rounds: int = key(100, "federated rounds")
    method: str = key("zorba", "training method; choosing it also sets what its preset in configs/methods/ says")
    method_file: str = key("", "a Python file of yours that registers methods and their keys (docs/methods.md); every "
                           "node runs it")
    placement: str = key("auto", "one actor per client, many clients per actor, or chosen by the hardware",
                         ("auto", "per_client", "cohort"))
    out: str = key("", "folder of the run; empty: runs/NAME-TIME")
    tracking: list[str] = key([], "where the numbers of every round and evaluation go besides the run's records: CSV "
                              "files, TensorBoard, MLflow, Weights & Biases, trackio (docs/tracking.md)",
                              ("csv", "tensorboard", "mlflow", "wandb", "trackio"))
    clients: ClientsConfig = section(ClientsConfig, "the clients, their data and memory")
    participation: ParticipationConfig = section(ParticipationConfig, "who takes part in a round, and reports in time")
    fleet: FleetConfig = section(FleetConfig, "the simulated devices and links: the virtual clock")
    faults: FaultsConfig = section(FaultsConfig, "clients that misbehave, in the simulated world")
    model: ModelConfig = section(ModelConfig, "the language model and what of it is trained")
    task: TaskConfig = section(TaskConfig, "data, prompt and labels")
    zo: ZeroOrderConfig = section(ZeroOrderConfig, "the zeroth-order estimator")
    step: StepConfig = section(StepConfig, "how scalars (or gradients) become a step")
    privacy: PrivacyConfig = section(PrivacyConfig, "differential privacy of clients, by a trusted server")
    allocation: AllocationConfig = section(AllocationConfig, "which client tunes which blocks")
    evaluation: EvaluationConfig = section(EvaluationConfig, "measuring accuracy")
    checkpoint: CheckpointConfig = section(CheckpointConfig, "what lies beside the ledger so that going on is quick")
    guard: GuardConfig = section(GuardConfig, "when to stop a run that goes wrong")
    stop: StopConfig = section(StopConfig, "targets at which a run is done before its last round")
    runtime: RuntimeConfig = section(RuntimeConfig, "Ray and the hardware")

    @property
    def options(self) -> Any:
        """The keys of the chosen method's own; None: it has none."""
        return getattr(self, self.method, None)
