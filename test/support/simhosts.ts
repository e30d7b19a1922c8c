/**
 * One agent's door to its machine of the simulator. After `close` it neither hears nor does anything: its agent is dead;
 * while its agent is stopped, what it hears and does waits.
 */
import type { Hosts, LocalShard, LogOptions, PreparedShard } from '../../agent/hosts.ts'
import type { LogLine } from '../../agent/shardhost/stamps.ts'
import type { Shard } from '../../src/api/shard.ts'
import { OpError } from '../../src/lib/errors.ts'
import type { ProcessClock } from './simclock.ts'
import type { SimMachine } from './simmachine.ts'

export class SimHosts implements Hosts {
  readonly #machine: SimMachine
  readonly #clock: ProcessClock
  readonly #offs: (() => void)[] = []
  readonly #unheard = new Set<string>()
  readonly #forgotten = new Set<string>()
  #closed = false

  /** `clock` is the agent's own. */
  constructor(machine: SimMachine, clock: ProcessClock) {
    this.#machine = machine
    this.#clock = clock
  }

  recover(): Promise<void> {
    return Promise.resolve()
  }

  list(): readonly LocalShard[] {
    return this.#machine.list().filter((local) => !this.#forgotten.has(local.shardUid))
  }

  /** A broken door: nothing that is here now is ever seen. */
  forgetAll(): void {
    for (const local of this.#machine.list()) this.#forgotten.add(local.shardUid)
  }

  async prepare(shard: Shard, clusterUid: string, modelDir: string | undefined): Promise<PreparedShard> {
    await this.#turn()
    return this.#machine.prepare(shard, clusterUid, modelDir)
  }

  async start(shard: Shard): Promise<void> {
    await this.#turn()
    this.#machine.start(shard)
  }

  stop(uid: string, graceMs: number, reason: string, drainMs = 0): void {
    void this.#turn().then(
      () => this.#machine.stop(uid, graceMs, reason, drainMs),
      () => {},
    )
  }

  async forget(uid: string): Promise<void> {
    await this.#turn()
    this.#machine.forget(uid)
  }

  onChange(listener: (uid: string) => void): () => void {
    const off = this.#machine.onChange((uid) => {
      if (this.#closed) return
      if (!this.#clock.isPaused) return listener(uid)
      if (this.#unheard.size === 0) void this.#clock.running().then(() => this.#catchUp(listener))
      this.#unheard.add(uid)
    })
    this.#offs.push(off)
    return off
  }

  async *readLog(
    uid: string,
    name: string,
    { tail, sinceMs = -Infinity, follow, signal }: LogOptions,
  ): AsyncGenerator<LogLine> {
    const log = this.#machine.log(uid, name)
    if (log === undefined) throw new OpError('NotFound', `node ${this.#machine.name} has no log of shard ${name}`)
    const past = log.lines.filter(({ atMs }) => atMs >= sinceMs).length
    let next = log.lines.length - (tail === undefined ? past : Math.min(past, tail))
    for (;;) {
      for (let line = log.lines[next]; line !== undefined; line = log.lines[next]) {
        next += 1
        yield line
      }
      if (!follow || log.ended || signal.aborted || this.#closed) return
      await log.change(signal)
    }
  }

  close(): void {
    this.#closed = true
    for (const off of this.#offs.splice(0)) off()
  }

  #catchUp(listener: (uid: string) => void): void {
    const uids = [...this.#unheard]
    this.#unheard.clear()
    if (!this.#closed) for (const uid of uids) listener(uid)
  }

  /** What an agent does takes a turn, is done only while it runs, and never by a dead one. */
  async #turn(): Promise<void> {
    await this.#clock.running()
    if (this.#closed) throw new OpError('Unavailable', 'the agent is dead')
  }
}
