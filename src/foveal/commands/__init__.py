"""Commands of other rooms, one module each; `cli.COMMANDS` names them."""
