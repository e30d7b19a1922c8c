/**
 * Flags that a deployment may hand to its engine, each as one entry `--flag` or `--flag=N`. Left out is what mctl sets
 * itself (model, addresses, ports, sharding), what would break the memory budget that was planned (concurrency, context,
 * caches) and what runs foreign code. The engines' own parsers in agent/runtimes refuse the rest once more.
 */
import type { Cause } from '../lib/errors.ts'
import { forbidden, invalid, unsupported } from './causes.ts'
import type { Engine } from './words.ts'

type ValueForm = 'none' | keyof typeof values

const values = {
  count: { pattern: /^\d{1,9}$/, words: 'a whole number' },
  size: { pattern: /^[1-9]\d{0,4}$/, words: 'a whole number from 1 to 99999' },
  number: { pattern: /^\d{1,9}(\.\d{1,3})?$/, words: 'a number' },
} as const

export const engineArgs: Readonly<Record<Engine, Readonly<Record<string, ValueForm>>>> = {
  mlx: { '--prefill-step-size': 'size', '--beat-seconds': 'size' },
  llamacpp: {
    '--threads': 'size',
    '--batch-size': 'size',
    '--ubatch-size': 'size',
    '--no-mmap': 'none',
    '--mlock': 'none',
    '--no-warmup': 'none',
    '--jinja': 'none',
  },
  fake: {
    '--crash-on-start': 'none',
    '--hang': 'none',
    '--refuse-memory': 'none',
    '--lie-ready': 'none',
    '--tokens-per-second': 'number',
    '--slow-load-ms': 'count',
    '--crash-after-ms': 'count',
    '--hang-after-ms': 'count',
    '--stuck-after-ms': 'count',
    '--mute-after-ms': 'count',
    '--eat-mib-per-second': 'count',
    '--beat-seconds': 'count',
    '--stall-seconds': 'count',
    '--canary-every-seconds': 'count',
    '--canary-seconds': 'count',
    '--exit-code': 'count',
    '--only-rank': 'count',
    '--only-epoch': 'count',
  },
}

/** Causes for the `args` of an engine; `field` is the path of the list. */
export function checkEngineArgs(field: string, engine: 'Auto' | Engine, args: readonly string[]): Cause[] {
  if (args.length === 0) return []
  if (engine === 'Auto')
    return [forbidden(field, 'may only be set with an engine by name, because flags differ from engine to engine')]
  return args.flatMap((arg, index) => checkArg(`${field}[${index}]`, engineArgs[engine], arg))
}

function checkArg(field: string, flags: Readonly<Record<string, ValueForm>>, arg: string): Cause[] {
  const equals = arg.indexOf('=')
  const flag = equals < 0 ? arg : arg.slice(0, equals)
  const value = equals < 0 ? undefined : arg.slice(equals + 1)
  const form = Object.hasOwn(flags, flag) ? flags[flag] : undefined
  if (form === undefined) {
    const supported = Object.entries(flags).map(([name, known]) => (known === 'none' ? name : `${name}=N`))
    return [unsupported(field, arg, supported)]
  }
  if (form === 'none') return value === undefined ? [] : [invalid(field, arg, `${flag} takes no value`)]
  if (value !== undefined && values[form].pattern.test(value)) return []
  return [invalid(field, arg, `must be ${flag}=N with ${values[form].words}`)]
}
