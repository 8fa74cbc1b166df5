"""Text classification by Bayes' rule on likelihoods."""
