import Rondo
@main struct TakeoverProbe: RondoProgram { func run() async throws { print("ok start") } }
