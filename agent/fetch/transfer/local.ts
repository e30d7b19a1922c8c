/** Transfers in the thread that asks for them. */
import type { Clock } from '../../../src/lib/clock.ts'
import { get } from './get.ts'
import { Part } from './part.ts'
import type { Head, PartFile, ReceiveOptions, Transfers } from './transfers.ts'

/** What one read of a connection brings at most. */
const BUFFER_BYTES = 4 * 2 ** 20

export function localTransfers(clock: Clock): Transfers {
  // A request reads into it and is done with it before another one's turn.
  const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES)
  return {
    open: async (place, signal) => new LocalPart(await Part.open(place, signal), clock, buffer),
    close: () => Promise.resolve(),
  }
}

class LocalPart implements PartFile {
  readonly #part: Part
  readonly #clock: Clock
  readonly #buffer: Buffer

  constructor(part: Part, clock: Clock, buffer: Buffer) {
    this.#part = part
    this.#clock = clock
    this.#buffer = buffer
  }

  get bytes(): number {
    return this.#part.bytes
  }

  receive({ request, judge, onBytes, signal }: ReceiveOptions): Promise<void> {
    const doors = { clock: this.#clock, buffer: this.#buffer }
    const part = this.#part
    const reader = {
      onHead: async (head: Head) => {
        if ((await judge(head)) === 'Restart') part.restart()
        onBytes(part.bytes)
      },
      onBody: (piece: Uint8Array) => {
        part.append(piece)
        onBytes(part.bytes)
        return part.bytes < part.sizeBytes
      },
    }
    return get(doors, request, reader, signal)
  }

  restart(): Promise<void> {
    this.#part.restart()
    return Promise.resolve()
  }

  sha256(): Promise<string> {
    return Promise.resolve(this.#part.sha256())
  }

  close(): Promise<void> {
    this.#part.close()
    return Promise.resolve()
  }
}
