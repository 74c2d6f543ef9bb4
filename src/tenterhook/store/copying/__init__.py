"""Moving house: every row of one database into another one, of either kind."""
