"""Losses against rows of classes that are learned beside the embeddings: class weights, proxies, centers; one file each."""
