"""What is watched: sources, the stories they tell, recordings, and the process of the model that writes beside them."""
