// Options of simulated sockets: kept, and obeyed where a simulation can show a difference.

import CRondo
import Glibc
import Rondo
import SystemPackage

extension SimulatedNetwork {
    func setOption(_ option: SocketOption, of descriptor: Descriptor, to value: [UInt8]) throws(Errno) {
        try socket(descriptor).options[option] = value
    }

    func option(_ option: SocketOption, of descriptor: Descriptor, size: Int) throws(Errno) -> [UInt8] {
        let socket = try socket(descriptor)
        if let value = socket.options[option] { return Array(value.prefix(size)) }
        // SAFETY: reads the number's bytes within the call.
        return unsafe withUnsafeBytes(of: defaultValue(of: option)) { unsafe Array($0) }
    }

    private func defaultValue(of option: SocketOption) -> Int32 {
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
