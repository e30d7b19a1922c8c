/**
 * Figures that a node reports instead of its own: `--simulate "chip=Apple M4,memory=16Gi,gpuCores=10"` for laboratory
 * nodes, and a share of the machine for the agents of one `mctl dev`. Only what is reported changes; engines are real.
 */
import { defaultGpuMemoryBytes, findChip, systemReserveBytes } from '../../src/api/hardware.ts'
import { OpError } from '../../src/lib/errors.ts'
import { tryParseBytes } from '../../src/lib/quantity.ts'
import type { MachineFacts, Observe } from './facts.ts'

export interface Simulation {
  readonly chip: string
  readonly memoryBytes: number
  readonly gpuCores?: number
  readonly gpuMemoryBytes?: number
  readonly osVersion?: string
  readonly hardwareModel?: string
}

const keys = ['chip', 'memory', 'gpuCores', 'gpuMemory', 'osVersion', 'hardwareModel']

/** `key=value,…`; chip and memory are required. An OpError Invalid names every cause. GPU cores default to the chip's. */
export function parseSimulation(spec: string): Simulation {
  const causes: { field: string; message: string }[] = []
  const values = new Map<string, string>()
  for (const part of spec.split(',')) {
    const [key = '', ...rest] = part.split('=')
    const [name, value] = [key.trim(), rest.join('=').trim()]
    if (!keys.includes(name)) causes.push({ field: name, message: `unknown key, must be one of ${keys.join(', ')}` })
    else if (value === '') causes.push({ field: name, message: 'has no value' })
    else if (values.has(name)) causes.push({ field: name, message: 'stands there twice' })
    else values.set(name, value)
  }
  const bytes = (key: string): number | undefined => {
    const text = values.get(key)
    const parsed = text === undefined ? undefined : tryParseBytes(text)
    if (text !== undefined && parsed === undefined)
      causes.push({ field: key, message: `Invalid value: "${text}": must be a quantity of bytes such as 16Gi` })
    return parsed
  }
  const chip = values.get('chip')
  const memoryBytes = bytes('memory')
  const gpuMemoryBytes = bytes('gpuMemory')
  const coresText = values.get('gpuCores')
  if (coresText !== undefined && !/^[1-9]\d*$/.test(coresText))
    causes.push({ field: 'gpuCores', message: `Invalid value: "${coresText}": must be a whole number above 0` })
  for (const key of ['chip', 'memory'])
    if (!values.has(key) && !causes.some((c) => c.field === key)) causes.push({ field: key, message: 'Required value' })
  if (causes.length > 0 || chip === undefined || memoryBytes === undefined)
    throw new OpError('Invalid', `--simulate "${spec}": ${causes.map((c) => `${c.field}: ${c.message}`).join('; ')}`, {
      causes,
    })

  const gpuCores = coresText === undefined ? findChip(chip, undefined, memoryBytes)?.gpuCores : Number(coresText)
  const osVersion = values.get('osVersion')
  const hardwareModel = values.get('hardwareModel')
  return {
    chip,
    memoryBytes,
    ...(gpuCores === undefined ? {} : { gpuCores }),
    ...(gpuMemoryBytes === undefined ? {} : { gpuMemoryBytes }),
    ...(osVersion === undefined ? {} : { osVersion }),
    ...(hardwareModel === undefined ? {} : { hardwareModel }),
  }
}

/** The simulated machine: its figures, this machine's boot, no live memory at all. */
export const simulatedFacts = (simulation: Simulation, real: Pick<MachineFacts, 'bootId'>): MachineFacts => ({
  ...simulation,
  bootId: real.bootId,
  simulated: true,
})

const GIB = 2 ** 30

/**
 * One of `shares` equal parts of the machine: a capacity whose allocatable (DESIGN §7, default reserve) is the
 * machine's divided by `shares`. The reserve of a small node is larger in proportion, so the parts of the memory sum
 * to more than the machine has, while the parts that may be promised sum to the machine's. Live memory stays whole:
 * it is the same memory for all.
 */
export function shareOf(facts: MachineFacts, shares: number): MachineFacts {
  if (shares <= 1) return facts
  const gpuMemoryBytes = facts.gpuMemoryBytes ?? defaultGpuMemoryBytes(facts.memoryBytes, facts.osVersion)
  const usable = facts.memoryBytes - systemReserveBytes(facts.memoryBytes)
  return {
    ...facts,
    memoryBytes: memoryWithUsable(Math.floor(Math.max(0, usable) / shares)),
    gpuMemoryBytes: Math.floor(gpuMemoryBytes / shares),
  }
}

/** The memory of which `usable` is left after the default reserve clamp(2 GiB + RAM/8, 4 GiB, 16 GiB): its inverse, piece by piece. */
function memoryWithUsable(usable: number): number {
  const small = usable + 4 * GIB
  if (small <= 16 * GIB) return small
  const middle = Math.floor(((usable + 2 * GIB) * 8) / 7)
  return middle <= 112 * GIB ? middle : usable + 16 * GIB
}

/** An observer whose figures are changed by `--simulate` or a share. */
export function reportAs(observe: Observe, how: { simulation?: Simulation; shares?: number }): Observe {
  const { simulation, shares = 1 } = how
  return async (own) => {
    const facts = await observe(own)
    return simulation === undefined ? shareOf(facts, shares) : simulatedFacts(simulation, facts)
  }
}
