"""What an answer is held to: JSON, a JSON Schema, an expression, a grammar.

    guides         guides of requests become constraints of sequences; compiled once, kept
    trial          compiles grammars in a process that may be killed over one
    trial_process  that process, from the side of the server
    constraint     one sequence's way through its guide, and what that leaves of the logits

1. The compiler is llguidance. It obeys what it accepts, or names what it cannot obey; xgrammar,
   which is as quick, takes `not`, `uniqueItems`, `contains` and `multipleOf`, and ignores them.
2. A guide is compiled on trial first, in a process that the kernel ends after `trial.CPU_S` seconds
   or `trial.SPACE` bytes. A thread cannot be stopped, and neither compiler has an end of its own.
3. Nothing of it is on the event loop or in the engine's loop. llguidance holds no interpreter lock
   while it compiles or makes a mask; only reading the vocabulary does, once for each loaded model
   that gets a guide (0.2 s for 49,152 tokens), so a model that gets none does not pay for it.
4. Masks are made after the forward pass was started: on a GPU it still runs then, and on a CPU
   there are no cores to make them on meanwhile.
5. A step without guided sequences knows nothing of all this.
6. What a sequence's guide may cost is bounded, too (`constraint.ALLOWED_S`): all wait for it.
7. The log-probabilities of an answer are those of the model, before the guide.

Measured on two cores with the vocabulary of SmolLM2-135M-Instruct (49,152 tokens), one thread, of
the first 75 to 172 tokens of an answer (llguidance 1.7.6, xgrammar 0.2.8):

    |                                        | llguidance        | xgrammar                |
    | any object: compile, then each token   | 0.3 ms, 6-12 us   | 3.9 ms, 7 us            |
    | a schema of 0.5 kB                     | 0.5 ms, 7-11 us   | 4.2 ms, 4 us            |
    | a schema of 52 kB                      | 20 ms, 6-9 us     | 115 ms, 4 us            |
    | 500 properties                         | 20 ms             | 300 ms                  |
    | objects in objects, 200 levels         | refused           | 9.6 s                   |
    | `{"type": "integer", "multipleOf": N}` | N = 999,983: 7 s  | ignored                 |
    | needs                                  | nothing           | torch, transformers,    |
    |                                        |                   | triton, apache-tvm-ffi  |
    | wheels                                 | one for all       | one for each Python     |
    |                                        | Pythons (abi3)    |                         |

Neither has a wheel for CUDA, nor needs one: masks are made by the CPU. The process of trials adds
10 ms to the first answer of a guide and 0.5 s to the first one of a model, which starts it; the
vocabulary takes 45 MB in the server, and that process 80 MB, from then on. Masks
take 12 us a sequence; with laying them over the logits of 1, 8 and 32 sequences a step gets 0.03,
0.2 and 0.9 ms longer, where it takes 25 to 70 (the least of 150 steps, on a machine that others
used as well).
"""
