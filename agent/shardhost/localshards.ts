/** The shards that this machine knows of, as the parts of the real `Hosts` share them; tells of every change. */
import type { Handle } from '../handles.ts'
import type { LocalShard } from '../hosts.ts'
import type { HostConnection } from './connection.ts'
import type { HostState, ToHost } from './protocol.ts'

export interface Entry {
  handle: Handle
  state?: HostState
  lost?: boolean
  connection?: HostConnection
  /** Awake ms (contacts.ts) at which its host was last heard, or first looked for. */
  heardMs?: number
  silentSeconds?: number
  /** The stop that was asked for, until a connection can carry it. */
  stop?: ToHost & { type: 'Stop' }
}

export const hasEnded = (entry: Entry): boolean => entry.lost === true || entry.state?.phase === 'Exited'

export class LocalShards {
  readonly #entries = new Map<string, Entry>()
  readonly #listeners = new Set<(shardUid: string) => void>()

  get(shardUid: string): Entry | undefined {
    return this.#entries.get(shardUid)
  }

  all(): readonly Entry[] {
    return [...this.#entries.values()]
  }

  /** Adds without telling: who found it tells when it is ready to be seen. */
  add(entry: Entry): Entry {
    this.#entries.set(entry.handle.shardUid, entry)
    return entry
  }

  remove(shardUid: string): void {
    this.#entries.delete(shardUid)
  }

  /** Not forgotten since, and not another shard's. */
  holds(entry: Entry): boolean {
    return this.#entries.get(entry.handle.shardUid) === entry
  }

  list(): readonly LocalShard[] {
    return this.all().map(({ handle, state, lost, silentSeconds }) => ({
      shardUid: handle.shardUid,
      shardName: handle.shardName,
      clusterUid: handle.clusterUid,
      prepared: handle.prepared,
      ...(handle.started === undefined ? {} : { started: true }),
      ...(state === undefined ? {} : { state }),
      ...(lost === undefined ? {} : { lost }),
      ...(silentSeconds === undefined ? {} : { silentSeconds }),
    }))
  }

  onChange(listener: (shardUid: string) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  changed(shardUid: string): void {
    for (const listener of this.#listeners) listener(shardUid)
  }
}
