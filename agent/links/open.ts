/** All that an agent does about links: the door at which others measure theirs to us, and the way to measure ours. */
import type { LinkMeasurement, LinkOrder } from '../../src/api/links.ts'
import type { OpenDoor } from '../doorserver.ts'
import type { PeerCredentials } from '../fetch/hub.ts'
import { peerDoors } from '../fetch/hub.ts'
import type { Runtime } from '../runtimes/runtime.ts'
import type { BenchDoors } from './bench.ts'
import { LinkBench } from './bench.ts'
import type { MeasuringDoorOptions } from './door.ts'
import { openMeasuringDoor } from './door.ts'
import { measureLink } from './measure.ts'

export interface LinksOptions extends Omit<MeasuringDoorOptions, 'bench'>, Omit<BenchDoors, 'launch'> {
  /** Absent: no engine here measures links. */
  readonly launch?: Runtime['linkBench']
  /** Read anew each time; absent: the cluster has no identities. */
  readonly credentials?: (() => PeerCredentials) | undefined
  readonly platform: NodeJS.Platform
}

export interface Links {
  readonly door: OpenDoor
  /** Never rejects. */
  readonly measure: (order: LinkOrder) => Promise<LinkMeasurement>
  /** Shards are here or wanted, or none is any more. */
  readonly onShards: (areHere: boolean) => void
}

export async function openLinks(options: LinksOptions): Promise<Links> {
  const { launch, credentials } = options
  const bench = launch === undefined ? undefined : new LinkBench({ ...options, launch })
  const door = await openMeasuringDoor({ ...options, bench })
  const { ask } = peerDoors(credentials)
  return {
    door,
    measure: (order) => measureLink({ ...options, ask, bench }, order),
    onShards: (areHere) => bench?.setWanted(areHere),
  }
}
