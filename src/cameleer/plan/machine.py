"""What a plan is made for: devices of a kind, a price, a share of the peak; and how long arithmetic takes there.

seconds of arithmetic  =  FLOPs / (devices × peak × MFU)
a decoding step        =  the longest of  its arithmetic,
                                          weights and cache read once at BANDWIDTH_SHARE of the bandwidth,
                                          layers × layer_seconds
sampling               =  prompts' arithmetic + decoding steps;  as many steps as the longest answer has tokens, or
                          as all answers of a device have, over the rows that run at once
"""

from dataclasses import dataclass, replace

from cameleer.core.errors import UserError
from cameleer.plan.devices import BANDWIDTH_SHARE, TERA, Device, find_device
from cameleer.plan.shapes import Shape


@dataclass(frozen=True)
class Machine:
    """Devices that work together; `price` is dollars for an hour of one."""

    device: Device
    devices: int
    price: float
    mfu: float

    def seconds(self, flops: float, devices: int | None = None) -> float:
        """Of arithmetic on `devices` of them, all if absent."""
        return flops / ((devices or self.devices) * self.device.peak * self.mfu)


def make_machine(
    device: str, devices: int, price: float, mfu: float | None = None, peak_tflops: float | None = None
) -> Machine:
    """The machine that a command describes; what it leaves open is the device's own.

    Raises UserError for an unknown device and numbers that make no sense.
    """
    kind = find_device(device)
    if peak_tflops is not None:
        if peak_tflops <= 0:
            raise UserError(f"--peak-tflops {peak_tflops:g}: must be above 0.")
        kind = replace(kind, peak=peak_tflops * TERA)
    share = kind.mfu if mfu is None else mfu
    if devices < 1:
        raise UserError(f"--devices {devices}: there must be at least one.")
    if not 0 < share <= 1:
        raise UserError(f"--mfu {share:g}: the share of the peak is above 0 and at most 1, such as 0.35.")
    if price < 0:
        raise UserError(f"--price {price:g}: dollars for an hour of one device, such as 2.5.")
    return Machine(kind, devices, price, share)


@dataclass(frozen=True)
class Sampled:
    """Answers to be sampled: how many, mean lengths in tokens, and the longest that is allowed."""

    count: float
    prompt: float
    answer: float
    longest: float
    batch: int
    """Sequences that run at once on a device."""

    @property
    def tokens(self) -> float:
        return self.count * self.answer

    def flops(self, shape: Shape) -> float:
        """Forward through prompts and answers."""
        length = self.prompt + self.answer
        return shape.body_flops(self.count * length, self.count * length**2 / 2) + shape.head_flops(self.tokens)

    def rows(self, devices: int) -> float:
        """Sequences at once on each of so many devices."""
        return min(self.batch, -(-self.count // devices))

    def seconds(self, shape: Shape, machine: Machine, devices: int) -> float:
        """On so many devices, each with the whole model."""
        device, rows = machine.device, self.rows(devices)
        prefill = shape.body_flops(self.count * self.prompt, self.count * self.prompt**2 / 2)
        step_flops = rows * (shape.body_flops(1, self.prompt + self.answer / 2) + shape.head_flops(1))
        held = device.width * shape.weights + rows * (self.prompt + self.answer / 2) * shape.cache_bytes(device.width)
        step = max(
            machine.seconds(step_flops, devices=1),
            held / (BANDWIDTH_SHARE * device.bandwidth),
            shape.layers * device.layer_seconds,
        )
        # Where one device has few answers, each waits for its longest.
        steps = max(self.longest, self.tokens / devices / rows) if self.count else 0
        return machine.seconds(prefill, devices) + steps * step
