"""Filter expressions over item attributes: of requests (`filter`) and of rules (`where`)."""
