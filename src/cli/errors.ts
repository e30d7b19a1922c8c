/** How an error is told and what the command exits with: kubectl's sentences, so that scripts carry over. */
import type { OpError } from '../lib/errors.ts'
import { isOpError, messageOf } from '../lib/errors.ts'
import { CliError } from './context.ts'

export interface Failure {
  readonly text: string
  readonly exitCode: number
}

export function failureOf(error: unknown): Failure {
  if (error instanceof CliError) return { text: `error: ${error.message}`, exitCode: error.exitCode }
  if (!isOpError(error)) return { text: `error: ${messageOf(error)}`, exitCode: 1 }
  return { text: opErrorText(error), exitCode: 1 }
}

function opErrorText(error: OpError): string {
  if (error.message.startsWith('Unable to connect to the server'))
    return `${error.message}\nIs it running there? \`mctl dev\` starts one; --server or MCTL_SERVER names another address.`
  // The server's text of an Invalid already says what is invalid; the causes follow, one a line when there are several.
  if (error.code === 'Invalid') return error.message
  return `Error from server (${error.code}): ${error.message}`
}
