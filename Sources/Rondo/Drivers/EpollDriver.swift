import SystemPackage

@safe
final class EpollDriver: KernelDriver {
    let name = "epoll"
    let reason: String
    let receiveBuffers: ReceiveBuffers
    let socketFlags: Int32 = 0
    var systemCalls: UInt64 = 0
    init(choice: DriverChoice, receiveBuffers: ReceiveBuffers, offload: OffloadPool) throws(Errno) {
        reason = choice.reason
        self.receiveBuffers = receiveBuffers
    }
    func submit(_ operation: Operation, as id: OperationID) {}
    func cancel(_ id: OperationID) {}
    func wait(until deadline: UInt64) {}
    func nextCompletion() -> Completion? { nil }
    func wake() {}
    func close() {}
}
