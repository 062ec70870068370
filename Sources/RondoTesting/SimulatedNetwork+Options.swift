// Options of simulated sockets: kept, and obeyed where a simulation can show a difference.

import CRondo
import Glibc
import Rondo
import SystemPackage

extension SimulatedNetwork {
    func setOption(_ option: SocketOption, of descriptor: Descriptor, to values: [Int32]) throws(Errno) {
        try socket(descriptor).options[option] = values
    }

    func option(_ option: SocketOption, of descriptor: Descriptor) throws(Errno) -> Int32 {
        let socket = try socket(descriptor)
        if let values = socket.options[option] { return values[0] }
        switch option {
        case .receiveBuffer, .sendBuffer: return Int32(clamping: connectionCapacity)
        case .quickAcknowledgements: return 1
        case .keepAliveIdle: return 7200
        case .keepAliveInterval: return 75
        case .keepAliveCount: return 9
        default: return 0
        }
    }

    func breakConnection(_ descriptor: Descriptor) { try? socket(descriptor).breakOff() }
}
