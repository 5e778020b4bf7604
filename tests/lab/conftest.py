from lab.drilling import drilling, held, worker

__all__ = ["drilling", "held", "worker"]
