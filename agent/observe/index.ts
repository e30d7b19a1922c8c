/** The observer of this platform: fixed facts once, live ones at each call. */
import * as darwin from './darwin/observe.ts'
import type { NodeNetwork } from '../../src/api/node.ts'
import type { FixedFacts, MachineDoors, Observe } from './facts.ts'
import * as linux from './linux/observe.ts'
import type { ObservePorts } from './ports.ts'

export interface ObserverOptions {
  readonly platform: NodeJS.Platform
  readonly doors: MachineDoors
  /** The volume of this folder is the one whose filling matters. */
  readonly dataDir: string
  /** Absent: nothing is said of ports. */
  readonly ports?: ObservePorts
  /** Absent: nothing is said of networks. */
  readonly networks?: () => readonly NodeNetwork[]
}

/** On another platform than macOS the Linux way is taken; what it lacks reads as unknown. */
export function createObserver({ platform, doors, dataDir, ports, networks }: ObserverOptions): Observe {
  let fixed: Promise<FixedFacts> | undefined
  return async (own) => {
    fixed ??= platform === 'darwin' ? darwin.observeFixed(doors) : linux.observeFixed(doors)
    const facts = await fixed
    const [live, volume, seen] = await Promise.all([
      platform === 'darwin' ? darwin.observeLive(doors, own, facts.memoryBytes) : linux.observeLive(doors, own),
      doors.volume(dataDir),
      ports?.(),
    ])
    const disk = volume === undefined ? {} : { diskFreeBytes: volume.freeBytes, diskTotalBytes: volume.totalBytes }
    return {
      ...facts,
      ...live,
      ...disk,
      ...(seen === undefined ? {} : { ports: seen }),
      ...(networks === undefined ? {} : { networks: networks() }),
    }
  }
}
