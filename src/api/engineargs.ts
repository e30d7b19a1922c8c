/**
 * Flags that a deployment may hand to its engine. Left out is what mctl sets itself (model, addresses, ports, sharding),
 * what would break the memory budget that was planned (concurrency, context, caches) and what runs foreign code.
 */
import type { Cause } from '../lib/errors.ts'
import { forbidden, invalid, required, unsupported } from './causes.ts'
import type { Engine } from './words.ts'

type ValueForm = 'none' | 'count' | 'number' | 'json' | readonly string[]

const logLevels = ['DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL']

const allowed: Readonly<Record<'mlx' | 'llamacpp', Readonly<Record<string, ValueForm>>>> = {
  mlx: {
    '--temp': 'number',
    '--top-p': 'number',
    '--top-k': 'count',
    '--min-p': 'number',
    '--chat-template-args': 'json',
    '--use-default-chat-template': 'none',
    '--prefill-step-size': 'count',
    '--prompt-concurrency': 'count',
    '--log-level': logLevels,
  },
  llamacpp: {
    '--temp': 'number',
    '--top-p': 'number',
    '--top-k': 'count',
    '--min-p': 'number',
    '--repeat-penalty': 'number',
    '--threads': 'count',
    '--batch-size': 'count',
    '--ubatch-size': 'count',
    '--flash-attn': ['on', 'off', 'auto'],
    '--jinja': 'none',
    '--chat-template-kwargs': 'json',
    '--reasoning-format': ['none', 'deepseek', 'auto'],
    '--no-mmap': 'none',
    '--mlock': 'none',
  },
}

const fakeFlag = /^--[a-z][a-z0-9-]*(=.*)?$/s

/** Causes for `args` (entries `--flag`, `value` or `--flag=value`) of the engine; `field` is the path of the list. */
export function checkEngineArgs(field: string, engine: 'Auto' | Engine, args: readonly string[]): Cause[] {
  if (args.length === 0) return []
  if (engine === 'Auto')
    return [forbidden(field, 'may only be set with an engine by name, because flags differ from engine to engine')]
  return engine === 'fake' ? checkFakeArgs(field, args) : checkRealArgs(field, allowed[engine], args)
}

/** The fake engine reads whatever story it is told; only what is no flag or value of one is refused. */
function checkFakeArgs(field: string, args: readonly string[]): Cause[] {
  const first = args[0] ?? ''
  return fakeFlag.test(first) ? [] : [invalid(`${field}[0]`, first, 'must be a flag such as --crash-after=3')]
}

function checkRealArgs(field: string, flags: Readonly<Record<string, ValueForm>>, args: readonly string[]): Cause[] {
  const causes: Cause[] = []
  for (let index = 0; index < args.length; index++) {
    const [flag = '', inline] = splitFlag(args[index] ?? '')
    const at = `${field}[${index}]`
    const form = Object.hasOwn(flags, flag) ? flags[flag] : undefined
    if (form === undefined) {
      causes.push(unsupported(at, flag, Object.keys(flags)))
      while ((args[index + 1] ?? '--').startsWith('--') === false) index++
    } else if (form === 'none') {
      if (inline !== undefined) causes.push(invalid(at, args[index], `${flag} takes no value`))
    } else {
      const value = inline ?? args[++index]
      const fault = value === undefined ? undefined : valueFault(form, value)
      if (value === undefined) causes.push(required(at, `${flag} takes a value`))
      else if (fault !== undefined) causes.push(invalid(`${field}[${index}]`, value, `${flag} ${fault}`))
    }
  }
  return causes
}

function splitFlag(arg: string): readonly [string, string?] {
  const equals = arg.indexOf('=')
  return equals < 0 ? [arg] : [arg.slice(0, equals), arg.slice(equals + 1)]
}

function valueFault(form: Exclude<ValueForm, 'none'>, value: string): string | undefined {
  if (form === 'count') return /^\d{1,9}$/.test(value) ? undefined : 'must be a whole number'
  if (form === 'number') return /^\d+(\.\d+)?$/.test(value) ? undefined : 'must be a number of at least 0'
  if (form === 'json') return isJsonMap(value) ? undefined : 'must be a JSON map'
  return form.includes(value) ? undefined : `must be one of ${form.join(', ')}`
}

function isJsonMap(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
  } catch {
    return false
  }
}
