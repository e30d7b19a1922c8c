// Running other programs: their output is shown only when they fail.
import { spawn } from 'node:child_process'

const LAST_LINES = 25

/** Resolves to { code, output }; `onLine` sees each line as it comes. A program that is not there has code 127. */
export function run(command, args, { cwd, env = process.env, onLine = () => {} } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    let rest = ''
    const take = (chunk) => {
      output += chunk
      const lines = (rest + chunk).split('\n')
      rest = lines.pop()
      for (const line of lines) onLine(line.trim())
    }
    child.stdout.setEncoding('utf8').on('data', take)
    child.stderr.setEncoding('utf8').on('data', take)
    child.on('error', (error) => resolve({ code: 127, output: String(error) }))
    child.on('close', (code) => resolve({ code: code ?? 1, output }))
  })
}

export function lastLines(output) {
  return output.trim().split('\n').slice(-LAST_LINES).join('\n')
}
