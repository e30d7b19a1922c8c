/** Linux: /proc and cgroups. The memory is the machine's, or the smallest limit that a container puts on it. */
import type { FixedFacts, LiveFacts, MachineDoors, OwnEngines } from '../facts.ts'
import { HEADROOM_RESERVE_BYTES } from '../facts.ts'
import type { CgroupFolder } from './parse.ts'
import {
  cgroupFolders,
  cgroupLimitBytes,
  cgroupStatBytes,
  chipName,
  meminfoBytes,
  memoryStalls,
  residentBytes,
} from './parse.ts'
import type { MemoryView } from './pressure.ts'
import { pressureOf } from './pressure.ts'

export async function observeFixed(doors: MachineDoors): Promise<FixedFacts> {
  const [meminfo = '', cpuinfo = '', bootId = '', release, model] = await Promise.all([
    doors.readText('/proc/meminfo'),
    doors.readText('/proc/cpuinfo'),
    doors.readText('/proc/sys/kernel/random/boot_id'),
    doors.readText('/proc/sys/kernel/osrelease'),
    doors.readText('/sys/class/dmi/id/product_name'),
  ])
  const limits = await readLimits(doors)
  const total = meminfoBytes(meminfo, 'MemTotal') ?? 0
  return {
    chip: chipName(cpuinfo) ?? 'unknown',
    memoryBytes: Math.min(total, ...limits.map((l) => l.limitBytes)),
    bootId: bootId.trim(),
    ...(release === undefined ? {} : { osVersion: `Linux ${release.trim()}` }),
    ...(model === undefined || model.trim() === '' ? {} : { hardwareModel: model.trim() }),
  }
}

export async function observeLive(doors: MachineDoors, own: OwnEngines): Promise<LiveFacts> {
  const [meminfo = '', psi, limits, statuses] = await Promise.all([
    doors.readText('/proc/meminfo'),
    doors.readText('/proc/pressure/memory'),
    readLimits(doors),
    Promise.all(own.pids.map((pid) => doors.readText(`/proc/${pid}/status`))),
  ])
  const ownBytes = statuses.reduce((sum, status) => sum + (status === undefined ? 0 : residentBytes(status)), 0)
  const total = meminfoBytes(meminfo, 'MemTotal') ?? 0
  const available = meminfoBytes(meminfo, 'MemAvailable') ?? 0
  const stalls = memoryStalls(psi)
  const machine = { limitBytes: total, usedBytes: total - available, ...(stalls === undefined ? {} : { stalls }) }
  const views: readonly MemoryView[] = [machine, ...limits]
  // The narrowest view is the one that binds: its use is what a person wants to see beside headroom.
  const narrowest = views.reduce((a, b) => (b.limitBytes - b.usedBytes < a.limitBytes - a.usedBytes ? b : a))
  const locked = meminfoBytes(meminfo, 'Unevictable')
  return {
    headroomBytes: Math.max(0, Math.min(...views.map((view) => headroomOf(view, ownBytes)))),
    usedBytes: Math.max(0, narrowest.usedBytes),
    // What Linux may not take back; its nearest to wired memory.
    ...(locked === undefined ? {} : { wiredBytes: locked }),
    pressure: pressureOf(views),
  }
}

const headroomOf = ({ limitBytes, usedBytes }: MemoryView, ownBytes: number): number =>
  limitBytes - Math.max(0, usedBytes - ownBytes) - HEADROOM_RESERVE_BYTES

async function readLimits(doors: MachineDoors): Promise<readonly MemoryView[]> {
  const folders = cgroupFolders((await doors.readText('/proc/self/cgroup')) ?? '')
  return (await Promise.all(folders.map((folder) => readFolder(doors, folder)))).flat()
}

/** What its hard and its soft limit say; a folder without limits binds nobody. */
async function readFolder(doors: MachineDoors, { version, path }: CgroupFolder): Promise<readonly MemoryView[]> {
  const read = (file: string) => doors.readText(`${path}/${file}`)
  const [hardBytes, softBytes] =
    version === 2
      ? [cgroupLimitBytes(await read('memory.max')), cgroupLimitBytes(await read('memory.high'))]
      : [cgroupLimitBytes(await read('memory.limit_in_bytes')), undefined]
  if (hardBytes === undefined && softBytes === undefined) return []
  const usage = Number((await read(version === 2 ? 'memory.current' : 'memory.usage_in_bytes')) ?? 0)
  const stat = await read('memory.stat')
  const cache = cgroupStatBytes(stat, version === 2 ? 'inactive_file' : 'total_inactive_file') ?? 0
  const stalls = version === 2 ? memoryStalls(await read('memory.pressure')) : undefined
  const view = { usedBytes: Math.max(0, usage - cache), ...(stalls === undefined ? {} : { stalls }) }
  return [
    ...(hardBytes === undefined ? [] : [{ ...view, limitBytes: hardBytes }]),
    ...(softBytes === undefined ? [] : [{ ...view, limitBytes: softBytes, soft: true }]),
  ]
}
