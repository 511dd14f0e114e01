"""Classes taught one at a time: the images of each, rows made of them, how sure an answer is, and when it is none of these."""
