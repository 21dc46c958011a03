from dsnn.cli import main

main()
