"""What a recipe will take, said before anything is fetched: `cameleer plan`."""
