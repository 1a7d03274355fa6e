"""opuproj.torch: the layer, its gradients, ternary rules, several ranks. (A folder named torch would hide torch.)"""
