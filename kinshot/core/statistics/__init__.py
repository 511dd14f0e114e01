"""What repeated figures say, one idea a file: how sure a mean is, whether two results differ, what several tests at once are worth.

`parts` what each kind of draw adds to the error of a mean, and the interval and p-value of all parts together; `means` over episodes, and
over checkpoints that share them; `pairing` two results on the same episodes or seeds; `jackknife` the part of the classes; `multiple`
correction for the number of tests; `ranks` the best and the worst. Float64 throughout, and free of torch.
"""
