"""Embedding models in transformers: encoders, and decoders whose last token stands for the text.
Models that rank texts, too.

    backend     the `EmbeddingBackend`: what the rest of the server sees
    reading     from the texts of a request to token ids, or to a refusal
    engine      the loop: one thread that computes batch after batch and hands the rows over
    batches     which inputs, of whose requests, are computed together next (pure)
    encoder     from a batch of token ids to a vector of each, or a score
    modules     what comes after the last layer: pooling, projections, unit length
    checkpoint  from a folder of weights to an encoder and its tokenizer, or a sentence

What a checkpoint says is read as sentence-transformers writes it, and computed as it computes it.
"""
