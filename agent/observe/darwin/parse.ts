/** Outputs of macOS commands → figures. Pure; recordings of real Macs are in test/fixtures/macos. */
import type { Pressure } from '../facts.ts'

/** `sw_vers`: the version, `15.7.4`. */
export const osVersion = (swVers: string): string | undefined =>
  /^ProductVersion:\s*(\d+(?:\.\d+)*)\s*$/m.exec(swVers)?.[1]

/** `sysctl a b c`: one `key: value` a line. */
export function sysctlValues(text: string): ReadonlyMap<string, string> {
  const lines = text.split('\n').map((line) => /^([\w.]+): (.*)$/.exec(line.trimEnd()))
  return new Map(lines.flatMap((m) => (m?.[1] === undefined ? [] : [[m[1], m[2] ?? '']])))
}

export function sysctlNumber(values: ReadonlyMap<string, string>, key: string): number | undefined {
  const text = values.get(key)
  const value = Number(text)
  return text === undefined || text.trim() === '' || !Number.isFinite(value) ? undefined : value
}

/** `kern.boottime`: `{ sec = 1779754624, usec = 340455 } Tue May 26 …`. macOS has no boot id that a user may read, so the time is it. */
export const bootTimeSeconds = (text: string): number | undefined => {
  const seconds = /\bsec = (\d+)/.exec(text)?.[1]
  return seconds === undefined ? undefined : Number(seconds)
}

/** `kern.memorystatus_vm_pressure_level`: 1 normal, 2 warning, 4 critical. */
export function pressureLevel(level: number | undefined): Pressure | undefined {
  if (level === undefined) return undefined
  return level >= 4 ? 'Critical' : level >= 2 ? 'Warn' : 'Normal'
}

/** `vm_stat`: bytes by label, such as `Pages wired down`; the page size is in its header. */
export function vmStatBytes(text: string, label: string): number | undefined {
  const pageSize = Number(/page size of (\d+) bytes/.exec(text)?.[1] ?? NaN)
  const pages = new RegExp(`^"?${label}"?:\\s+(\\d+)\\.?\\s*$`, 'm').exec(text)?.[1]
  const bytes = Number(pages ?? NaN) * pageSize
  return Number.isFinite(bytes) ? bytes : undefined
}

/** `memory_pressure`: RAM and the share of memory that is free, 0…1. It prints no level word. */
export function memoryPressure(text: string): { memoryBytes: number; freeShare: number } | undefined {
  const memory = /^The system has (\d+) \(/m.exec(text)?.[1]
  const percent = /System-wide memory free percentage: (\d+)%/.exec(text)?.[1]
  if (memory === undefined || percent === undefined) return undefined
  return { memoryBytes: Number(memory), freeShare: Number(percent) / 100 }
}

interface HardwareItem {
  readonly chip_type?: string
  readonly machine_model?: string
}
interface DisplayItem {
  readonly sppci_cores?: string
  readonly sppci_model?: string
  readonly spdisplays_vendor?: string
}

/** `system_profiler -json SPHardwareDataType`. */
export function hardware(json: string): { chip?: string; model?: string } {
  const item = firstItem<HardwareItem>(json, 'SPHardwareDataType')
  return {
    ...(item?.chip_type === undefined ? {} : { chip: item.chip_type }),
    ...(item?.machine_model === undefined ? {} : { model: item.machine_model }),
  }
}

/** `system_profiler -json SPDisplaysDataType`: GPU cores of the built-in GPU; the count is a string there. */
export function displayGpuCores(json: string): number | undefined {
  const cores = Number(firstItem<DisplayItem>(json, 'SPDisplaysDataType')?.sppci_cores ?? NaN)
  return Number.isInteger(cores) && cores > 0 ? cores : undefined
}

/** `ioreg -r -d 1 -w 0 -c IOAccelerator`: `"gpu-core-count" = 10`. Quicker than system_profiler, where it is there. */
export function ioregGpuCores(text: string): number | undefined {
  const cores = /"gpu-core-count" = (\d+)/.exec(text)?.[1]
  return cores === undefined ? undefined : Number(cores)
}

/**
 * The same command: share of the last moments in which the GPU was busy, 0…1. powermetrics tells it more exactly, but
 * to root alone, and over a time that it makes us wait for.
 */
export function ioregGpuBusy(text: string): number | undefined {
  const percent = Number(/"Device Utilization %"=(\d+)/.exec(text)?.[1] ?? NaN)
  return percent <= 100 ? percent / 100 : undefined
}

function firstItem<T>(json: string, type: string): T | undefined {
  try {
    const items = (JSON.parse(json) as Record<string, readonly T[] | undefined>)[type]
    return items?.[0]
  } catch {
    return undefined
  }
}
