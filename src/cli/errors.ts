/** How an error is told and what the command exits with: kubectl's sentences, so that scripts carry over. */
import { findKind } from '../api/kinds.ts'
import { causeText } from '../api/causes.ts'
import type { OpError } from '../lib/errors.ts'
import { AnsweredError, isOpError, messageOf } from '../lib/errors.ts'
import type { Cli } from './context.ts'
import { CliError } from './context.ts'

export interface Failure {
  readonly text: string
  /** What to do about it: told once a command, however many fail alike. */
  readonly hint?: string
  readonly exitCode: number
}

const NO_CONNECTION = 'Unable to connect to the server'
const CONNECTION_LOST = 'the connection to the server was lost'
/** As a shell says it of a command that was ended by Ctrl-C. */
const INTERRUPTED = 130

/** `during`, such as `error when deleting "a.yaml"`, says which of several things failed. */
export function failureOf(error: unknown, during?: string): Failure {
  if (error instanceof CliError) return { text: `error: ${error.message}`, exitCode: error.exitCode }
  if (!isOpError(error)) return { text: `error: ${messageOf(error)}`, exitCode: 1 }
  if (error.code === 'Cancelled') return { text: '', exitCode: INTERRUPTED }
  const hint = during === undefined ? hintOf(error) : undefined
  return { text: opErrorText(error, during), exitCode: 1, ...(hint === undefined ? {} : { hint }) }
}

/** A name that somebody typed and that is not there: where the right one is to be found. Names in files need no such word. */
function hintOf({ code, message }: OpError): string | undefined {
  const [, type = ''] = (code === 'NotFound' && /^([\w.]+) "[^"]*" not found$/.exec(message)) || []
  const facts = findKind(type)
  if (facts === undefined) return undefined
  const [short] = facts.shortNames
  const word = facts.plural.length > 8 && short !== undefined ? short : facts.plural
  return facts.namespaced
    ? `\`mctl get ${word} -A\` lists those that there are, with their namespaces.`
    : `\`mctl get ${word}\` lists those that there are.`
}

function opErrorText(error: OpError, during: string | undefined): string {
  const { code, message, causes } = error
  if (code === 'Unauthorized')
    return `error: You must be logged in to the server (${message})\nMCTL_CONFIG names a config file with a context for it; on the server's own machine MCTL_DATA_DIR=DATA_DIR takes the admin's.`
  // HTTP/2 in the clear at a door that speaks TLS.
  if (message.startsWith(NO_CONNECTION) && message.includes('Failed to connect'))
    return `${message}\nA cluster with identities wants to know who calls: MCTL_CONFIG names a config file with a context for it; on the server's own machine MCTL_DATA_DIR=DATA_DIR takes the admin's.`
  if (message.startsWith(NO_CONNECTION) && message.includes('certificate'))
    return `${message}\nThe server shows an authority that this context does not know. The cluster may have changed its authority before the context was renewed (mctl config renew); then an admin lets you in again with \`mctl user delete NAME\` and \`mctl user create NAME\`. Or it is another cluster, or somebody is in between.`
  if (message.startsWith(NO_CONNECTION))
    return `${message}\nIs it running there? \`mctl dev\` starts one; --server or MCTL_SERVER names another address.`
  if (message.startsWith(CONNECTION_LOST)) return `error: ${message}; try again`
  const [, kind, name] = /^(\w+)(?:\.[\w.]+)? "([^"]*)" is invalid/.exec(message) ?? []
  if (code === 'Invalid' && kind !== undefined && causes.length > 0)
    return withCauses(`The ${kind} "${name ?? ''}" is invalid: `, causes.map(causeText))
  const doing = during === undefined ? '' : `${during}: `
  return error instanceof AnsweredError
    ? `Error from server (${code}): ${doing}${message}`
    : `error: ${doing}${messageOf(error)}`
}

/** The server cannot be reached, or no more: whatever is asked next fails alike. */
const isLoss = (error: unknown): boolean =>
  isOpError(error) && (error.message.startsWith(NO_CONNECTION) || error.message.startsWith(CONNECTION_LOST))

const withCauses = (head: string, texts: readonly string[]): string =>
  texts.length === 1 ? head + (texts[0] ?? '') : [head, ...texts.map((text) => `* ${text}`)].join('\n')

/** Does all of it, whatever fails on the way; tells each failure where it happens. Resolves with the exit code. */
export class Failures {
  readonly #cli: Cli
  exitCode = 0

  constructor(cli: Cli) {
    this.#cli = cli
  }

  /** The value, or undefined when it failed. What would fail for every other one as well is thrown on. */
  async attempt<T>(run: () => Promise<T>, during?: string): Promise<T | undefined> {
    try {
      return await run()
    } catch (error) {
      if (isOpError(error, 'Cancelled') || isLoss(error)) throw error
      tell(this.#cli, failureOf(error, during))
      this.exitCode = 1
      return undefined
    }
  }
}

const toldHints = new WeakMap<Cli, Set<string>>()

export function tell(cli: Cli, { text, hint }: Failure): void {
  if (text !== '') cli.terminal.err(`${text}\n`)
  const told = toldHints.get(cli) ?? new Set()
  toldHints.set(cli, told)
  if (hint === undefined || told.has(hint)) return
  told.add(hint)
  cli.terminal.err(`${hint}\n`)
}
