/** macOS: a handful of its commands. Fixed facts cost a second once; live ones are two quick calls. */
import type { FixedFacts, LiveFacts, MachineDoors, OwnEngines } from '../facts.ts'
import { HEADROOM_RESERVE_BYTES } from '../facts.ts'
import {
  bootTimeSeconds,
  displayGpuCores,
  hardware,
  ioregGpuBusy,
  ioregGpuCores,
  memoryPressure,
  osVersion,
  pressureLevel,
  sysctlNumber,
  sysctlValues,
  vmStatBytes,
} from './parse.ts'

const accelerator = ['-r', '-d', '1', '-w', '0', '-c', 'IOAccelerator']

export async function observeFixed(doors: MachineDoors): Promise<FixedFacts> {
  const [swVers = '', sysctl = '', session = '', ioreg = ''] = await Promise.all([
    doors.runText('sw_vers', []),
    doors.runText('sysctl', ['machdep.cpu.brand_string', 'hw.memsize', 'hw.model', 'kern.boottime']),
    // Apart: sysctl fails as a whole over a name that it does not know.
    doors.runText('sysctl', ['kern.bootsessionuuid']),
    doors.runText('ioreg', accelerator),
  ])
  const values = sysctlValues(sysctl)
  const profile =
    values.has('machdep.cpu.brand_string') && values.has('hw.model')
      ? {}
      : hardware((await doors.runText('system_profiler', ['-json', 'SPHardwareDataType'])) ?? '')
  const gpuCores =
    ioregGpuCores(ioreg) ??
    displayGpuCores((await doors.runText('system_profiler', ['-json', 'SPDisplaysDataType'])) ?? '')
  const version = osVersion(swVers)
  const model = values.get('hw.model') ?? profile.model
  return {
    chip: values.get('machdep.cpu.brand_string') ?? profile.chip ?? 'unknown',
    memoryBytes: sysctlNumber(values, 'hw.memsize') ?? (await memoryFromPressure(doors)) ?? 0,
    bootId: bootIdIn(session, sysctl),
    ...(gpuCores === undefined ? {} : { gpuCores }),
    ...(version === undefined ? {} : { osVersion: version }),
    ...(model === undefined ? {} : { hardwareModel: model }),
  }
}

/** Of the machine since it started: as in the fixed facts, without the rest of them. */
export async function bootIdOf({ runText }: Pick<MachineDoors, 'runText'>): Promise<string> {
  // Apart: sysctl fails as a whole over a name that it does not know.
  const [session = '', time = ''] = await Promise.all(
    ['kern.bootsessionuuid', 'kern.boottime'].map((name) => runText('sysctl', [name])),
  )
  return bootIdIn(session, time)
}

/** The time of the boot moves when the clock is set; the session's id does not, where this macOS tells it. */
const bootIdIn = (session: string, time: string): string =>
  sysctlValues(session).get('kern.bootsessionuuid') ??
  `boot-${bootTimeSeconds(sysctlValues(time).get('kern.boottime') ?? '') ?? 'unknown'}`

const memoryFromPressure = async (doors: MachineDoors): Promise<number | undefined> =>
  memoryPressure((await doors.runText('memory_pressure', ['-Q'])) ?? '')?.memoryBytes

/**
 * What others hold for good is wired memory and the compressor; file cache and idle pages can be had. MLX wires its
 * weights, so the bytes bound by our loaded engines are taken out of the wired ones.
 */
export async function observeLive(doors: MachineDoors, own: OwnEngines, memoryBytes: number): Promise<LiveFacts> {
  const [vmStat = '', sysctl = '', ioreg = ''] = await Promise.all([
    doors.runText('vm_stat', []),
    doors.runText('sysctl', ['kern.memorystatus_vm_pressure_level']),
    doors.runText('ioreg', accelerator),
  ])
  const pressure = pressureLevel(sysctlNumber(sysctlValues(sysctl), 'kern.memorystatus_vm_pressure_level'))
  const wired = vmStatBytes(vmStat, 'Pages wired down')
  const compressor = vmStatBytes(vmStat, 'Pages occupied by compressor') ?? 0
  const headroom = wired === undefined ? undefined : headroomBytes(memoryBytes, wired, compressor, own.loadedBytes)
  const used = usedBytes(vmStat)
  const gpuBusy = ioregGpuBusy(ioreg)
  return {
    ...(headroom === undefined ? {} : { headroomBytes: headroom }),
    ...(pressure === undefined ? {} : { pressure }),
    ...(wired === undefined ? {} : { wiredBytes: wired }),
    ...(used === undefined ? {} : { usedBytes: used }),
    ...(gpuBusy === undefined ? {} : { gpuBusy }),
  }
}

/** As Activity Monitor counts "Memory Used": what programs have made and may not be purged, wired, compressor. */
function usedBytes(vmStat: string): number | undefined {
  const [made, purgeable = 0, wired, compressor] = [
    'Anonymous pages',
    'Pages purgeable',
    'Pages wired down',
    'Pages occupied by compressor',
  ].map((label) => vmStatBytes(vmStat, label))
  if (made === undefined || wired === undefined || compressor === undefined) return undefined
  return Math.max(0, made - purgeable) + wired + compressor
}

/** RAM − wired by others − compressor − 1 GiB, never negative. */
export const headroomBytes = (memory: number, wired: number, compressor: number, ownLoaded: number): number =>
  Math.max(0, memory - Math.max(0, wired - ownLoaded) - compressor - HEADROOM_RESERVE_BYTES)
