"""PocketBERT: a generated fragment of English, its three tasks, and the model pretrained on it."""
