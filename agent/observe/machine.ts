/** This very machine, as its agent sees it: what it is, and what its engines say of it. */
import type { Clock } from '../../src/lib/clock.ts'
import type { EngineReport } from '../nodestatus.ts'
import type { Runtimes } from '../runtimes/index.ts'
import { probeEngines } from '../runtimes/index.ts'
import { machineDoors } from './doors.ts'
import type { Observe } from './facts.ts'
import { createObserver } from './index.ts'
import { loopbackPorts, networksOf, portObserver, systemInterfaces } from './ports.ts'
import type { Simulation } from './simulate.ts'
import { reportAs } from './simulate.ts'

export interface MachineOptions {
  readonly platform: NodeJS.Platform
  readonly dataDir: string
  readonly runtimes: Runtimes
  readonly simulation: Simulation | undefined
  /** N: report 1/N of the machine. */
  readonly share?: number
  /** The cluster has no identities: no other machine reaches this one. */
  readonly loopbackOnly: boolean
  readonly clock: Clock
}

export interface MachineObserver {
  readonly observe: Observe
  /** `known`: only what was missing in it is asked for again. */
  readonly probe: (known?: EngineReport) => Promise<EngineReport>
}

/** Both belong together: the GPU's limit is a fact of the machine that only an engine can tell. */
export function machineObserver(options: MachineOptions): MachineObserver {
  const { platform, dataDir, runtimes, simulation, share, loopbackOnly, clock } = options
  let gpuMemoryBytes: number | undefined
  const portDoors = { ...machineDoors, interfaces: systemInterfaces }
  const plain = createObserver({
    platform,
    doors: machineDoors,
    dataDir,
    ports: loopbackOnly ? loopbackPorts : portObserver({ platform, doors: portDoors, clock }),
    // Only Macs have cables whose addresses must keep out of them.
    ...(platform === 'darwin' && !loopbackOnly ? { networks: () => networksOf(systemInterfaces()) } : {}),
  })
  const withGpu: Observe = async (own) => {
    const facts = await plain(own)
    return gpuMemoryBytes === undefined ? facts : { ...facts, gpuMemoryBytes }
  }
  const probe = async (known?: EngineReport): Promise<EngineReport> => {
    const report = await probeEngines(runtimes, known)
    gpuMemoryBytes = report.gpuMemoryBytes ?? gpuMemoryBytes
    return report
  }
  const how = {
    ...(simulation === undefined ? {} : { simulation }),
    ...(share === undefined ? {} : { shares: share }),
  }
  return { observe: reportAs(withGpu, how), probe }
}
