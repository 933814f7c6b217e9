"""What a fitted law says: frontier, returns, knee, cost of a wrong size, in loss, kWh and CO2."""
