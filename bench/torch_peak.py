"""The most bytes that PyTorch's allocator has given out at once."""

from torch.profiler import ProfilerActivity, profile


def peak_bytes(step):
    """Of those that step() allocates, as torch.profiler sees the CPU allocator; what was there
    before does not count."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak
