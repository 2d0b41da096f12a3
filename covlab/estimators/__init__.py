"""Classical estimators of R, the spectra on top of any R, and the calibration of the site.

An estimator is called with (batch, site): a batch of which it reads the four contract tensors, and G [M, N]. It returns an
:class:`covlab.model.Estimate`. ``Genie`` alone reads the truth, and says so.
"""
