"""Tasks with a verifier: what training samples, encodes and checks. numpy only.

``base`` is the protocol that a task of your own fulfils; ``paths`` is path finding in small graphs,
where every correct answer can be enumerated and the law of the pre-training documents is known.
"""
