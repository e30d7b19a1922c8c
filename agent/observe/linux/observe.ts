/** Linux: /proc and cgroups. The memory is the machine's, or the smallest limit that a container puts on it. */
import type { FixedFacts, LiveFacts, MachineDoors, OwnEngines, Pressure } from '../facts.ts'
import { HEADROOM_RESERVE_BYTES } from '../facts.ts'
import { cgroupFolders, cgroupLimitBytes, cgroupStatBytes, chipName, meminfoBytes, residentBytes } from './parse.ts'

interface Limit {
  readonly limitBytes: number
  /** Used for good: usage less the file cache that the kernel may drop. */
  readonly usedBytes: number
}

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
  const [meminfo = '', limits, statuses] = await Promise.all([
    doors.readText('/proc/meminfo'),
    readLimits(doors),
    Promise.all(own.pids.map((pid) => doors.readText(`/proc/${pid}/status`))),
  ])
  const ownBytes = statuses.reduce((sum, status) => sum + (status === undefined ? 0 : residentBytes(status)), 0)
  const total = meminfoBytes(meminfo, 'MemTotal') ?? 0
  const available = meminfoBytes(meminfo, 'MemAvailable') ?? 0
  const views: readonly Limit[] = [{ limitBytes: total, usedBytes: total - available }, ...limits]
  // The narrowest view is the one that binds: its use is what a person wants to see beside headroom.
  const narrowest = views.reduce((a, b) => (b.limitBytes - b.usedBytes < a.limitBytes - a.usedBytes ? b : a))
  const locked = meminfoBytes(meminfo, 'Unevictable')
  return {
    headroomBytes: Math.max(0, Math.min(...views.map((view) => headroomOf(view, ownBytes)))),
    usedBytes: Math.max(0, narrowest.usedBytes),
    // What Linux may not take back; its nearest to wired memory.
    ...(locked === undefined ? {} : { wiredBytes: locked }),
    pressure: pressureOf(Math.min(...views.map((v) => (v.limitBytes - v.usedBytes) / Math.max(1, v.limitBytes)))),
  }
}

const headroomOf = ({ limitBytes, usedBytes }: Limit, ownBytes: number): number =>
  limitBytes - Math.max(0, usedBytes - ownBytes) - HEADROOM_RESERVE_BYTES

/** Linux has no level word: under 10 % free is a warning, under 4 % the kernel is about to kill. */
const pressureOf = (freeShare: number): Pressure =>
  freeShare < 0.04 ? 'Critical' : freeShare < 0.1 ? 'Warn' : 'Normal'

async function readLimits(doors: MachineDoors): Promise<readonly Limit[]> {
  const folders = cgroupFolders((await doors.readText('/proc/self/cgroup')) ?? '')
  const read = await Promise.all(
    folders.map(async ({ version, path }): Promise<Limit | undefined> => {
      const [limitFile, usageFile] =
        version === 2 ? ['memory.max', 'memory.current'] : ['memory.limit_in_bytes', 'memory.usage_in_bytes']
      const limitBytes = cgroupLimitBytes(await doors.readText(`${path}/${limitFile}`))
      if (limitBytes === undefined) return undefined
      const usage = Number((await doors.readText(`${path}/${usageFile}`)) ?? 0)
      const stat = await doors.readText(`${path}/memory.stat`)
      const cache = cgroupStatBytes(stat, version === 2 ? 'inactive_file' : 'total_inactive_file') ?? 0
      return { limitBytes, usedBytes: Math.max(0, usage - cache) }
    }),
  )
  return read.filter((limit) => limit !== undefined)
}
