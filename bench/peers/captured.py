"""A training step of PyTorch as one CUDA graph, with inputs that stay where they are."""

WARM_STEPS = 3


class Captured:
    """Calls are steps of training like any others: the first few are run as they are, on a stream
    of their own, as capturing wants it; the next one is captured, and from then on replayed.

    `step(x, y)` answers the loss; `x` and `y` say of what shape, type and layout they are; `cuda`
    is torch.cuda.
    """

    def __init__(self, step, x, y, cuda):
        self.step, self.cuda = step, cuda
        self.x, self.y = x.clone(), y.clone()
        self.stream = cuda.Stream()
        self.calls = 0
        self.graph = self.loss = self.peak_bytes = None

    def __call__(self, x, y):
        self.x.copy_(x)
        self.y.copy_(y)
        self.calls += 1
        if self.calls <= WARM_STEPS:
            return self.on_own_stream()
        if self.graph is None:
            self.capture()
        self.graph.replay()
        return self.loss

    def on_own_stream(self):
        current = self.cuda.current_stream()
        self.stream.wait_stream(current)
        with self.cuda.stream(self.stream):
            loss = self.step(self.x, self.y)
        current.wait_stream(self.stream)
        return loss

    def capture(self):
        """Nothing is computed, but all memory is given out as in a step: so this is its peak."""
        self.graph = self.cuda.CUDAGraph()
        self.cuda.reset_peak_memory_stats()
        with self.cuda.graph(self.graph, stream=self.stream):
            self.loss = self.step(self.x, self.y)
        self.peak_bytes = self.cuda.max_memory_allocated()
