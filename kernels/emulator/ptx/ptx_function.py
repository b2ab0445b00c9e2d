"""The translation of one PTX function: its variables, its operands as C++ expressions, its statements."""
import re

import ptx_instructions
from ptx_module import CPP, STORAGE, parse_variable, statements_of

FLOATS = ('float', 'double')

SPECIAL = {'%laneid': 'lane_id()', '%warpid': 'warp_id()', '%clock': 'clock_ticks()', 'WARP_SZ': '32',
           '%clock64': 'clock_ticks()', '%globaltimer': 'clock_ticks()', '%smid': '0', '%nsmid': '1',
           '%gridid': '0', '%dynamic_smem_size': 'dynamic_shared_bytes()',
           '%lanemask_eq': '(1u << lane_id())', '%lanemask_lt': '((1u << lane_id()) - 1)'}
for _axis in 'xyz':
    SPECIAL['%tid.' + _axis] = 'threadIdx.' + _axis
    SPECIAL['%ntid.' + _axis] = 'blockDim.' + _axis
    SPECIAL['%ctaid.' + _axis] = 'blockIdx.' + _axis
    SPECIAL['%nctaid.' + _axis] = 'gridDim.' + _axis


def identifier(name):
    return 'v_' + re.sub(r'\W', '_', name.lstrip('%'))


class Translator:
    """Collects the C++ of one function in `lines`; instructions that it does not know in `unknown`."""

    def __init__(self, function, module, number):
        self.function, self.module, self.number = function, module, number
        self.lines, self.declarations, self.unknown = [], [], []
        self.registers = {}  # name to C++ type
        self.symbols = {}  # name to the C++ expression of its address, 64 bits
        self.place = None  # (file, line) of the source
        self.written_place = None
        for index, parameter in enumerate(function.parameters):
            self.symbols[parameter.name] = f'address(arguments[{index}])'
        for parameter in function.results:
            self.symbols[parameter.name] = f'address(result_{parameter.name})'
        for variable in module.variables:
            self.declare(variable, f'module_{variable.name}')

    # --- what instructions use ---
    def emit(self, text):
        if self.place != self.written_place and self.place is not None:
            self.lines.append(f'#line {self.place[1]} "{self.place[0]}"')
            self.written_place = self.place
        self.lines.append('  ' + text)

    def declare_local(self, text):
        """A declaration at the function's top, before anything that jumps."""
        self.declarations.append('  ' + text)

    def value(self, operand, type_name):
        """The operand as a C++ expression of the PTX type."""
        wanted = CPP[type_name]
        if operand.startswith('!'):
            return f'!{self.value(operand[1:], type_name)}'
        if operand in self.registers:
            return self.converted(identifier(operand), self.registers[operand], wanted)
        if operand in SPECIAL:
            return f'static_cast<{wanted}>({SPECIAL[operand]})'
        number = self.number_of(operand)
        if number is not None:
            text, own = number
            is_float = own in FLOATS or wanted in FLOATS
            return self.converted(text, own, wanted) if is_float else f'{wanted}({text})'
        match = re.match(r'^([\w$]+)(?:\+(\d+))?$', operand)
        return f'static_cast<{wanted}>({self.symbols[match.group(1)]} + {match.group(2) or 0})'

    @staticmethod
    def number_of(operand):
        """(C++ text, C++ type) of an immediate operand, or None."""
        if re.match(r'^0[fF][0-9A-Fa-f]{8}$', operand):
            return f'as_float(0x{operand[2:]}u)', 'float'
        if re.match(r'^0[dD][0-9A-Fa-f]{16}$', operand):
            return f'as_double(0x{operand[2:]}ull)', 'double'
        if re.match(r'^-?(0x[0-9a-fA-F]+|\d+)U?$', operand):
            value = int(operand.rstrip('U'), 0)
            text = str(value) + ('ll' if -2**63 < value < 2**63 else 'ull')
            return ('(-9223372036854775807ll - 1)' if value == -2**63 else text), 'uint64_t'
        return None

    @staticmethod
    def converted(text, own, wanted):
        """An expression of C++ type `own` with the same bits as type `wanted`."""
        if own == wanted:
            return text
        if wanted == 'float':
            return f'as_float(static_cast<uint32_t>({text}))'
        if wanted == 'double':
            return f'as_double(static_cast<uint64_t>({text}))'
        if own in FLOATS:
            text = f'bits_of({text})'
        return f'static_cast<{wanted}>({text})'

    def assign(self, register, text, type_name):
        """register = an expression of the PTX type (its bits)."""
        if register == '_':
            self.emit(f'static_cast<void>({text});')
            return
        own = self.registers[register]
        if (own in FLOATS) != (CPP[type_name] in FLOATS):
            text = self.converted(f'{CPP[type_name]}({text})', CPP[type_name], own)
        self.emit(f'{identifier(register)} = {text};')

    def memory(self, operand, space):
        """The address [register + offset] or [symbol + offset]: 32 bits in shared memory, else 64."""
        match = re.match(r'^\[\s*([^\]+\s]+)\s*(?:\+\s*(-?\w+))?\s*\]$', operand)
        base, offset = match.groups()
        text = self.value(base, 'u32' if space == 'shared' else 'u64')
        return f'{text} + ({offset})' if offset else text

    def register_reference(self, register):
        """A pointer to float where an f32 register is kept."""
        return f'reinterpret_cast<float*>(&{identifier(register)})'

    # --- the function ---
    def declare(self, variable, key):
        if variable.space == 'shared' and variable.bytes == 0:
            self.symbols[variable.name] = 'dynamic_shared_address()'
        elif variable.space == 'shared':
            what = f'&key_{key}, {variable.bytes}, {variable.alignment}'
            self.symbols[variable.name] = f'static_shared_address({what})'
        elif variable.space == 'local':
            self.declare_local(f'alignas({variable.alignment}) char local_{key}[{max(variable.bytes, 1)}];')
            self.symbols[variable.name] = f'address(local_{key})'
        else:
            self.symbols[variable.name] = f'address(&{key})'

    def declare_registers(self, text):
        match = re.match(r'\.reg\s+\.(\w+)\s+(.*)', text)
        kind = STORAGE[match.group(1)]
        names = []
        for name in match.group(2).split(','):
            name = name.strip()
            counted = re.match(r'(%?[\w$]+)<(\d+)>', name)
            names += [f'{counted.group(1)}{i}' for i in range(int(counted.group(2)))] if counted else [name]
        for name in names:
            self.registers[name] = kind
        self.emit(f'{kind} ' + ', '.join(map(identifier, names)) + ';')

    def directive(self, text):
        if text.startswith('.loc '):
            _, file, line = text.split()
            if line != '0' and file in self.module.files:
                self.place = (self.module.files[file], line)
        elif text.startswith('.reg'):
            self.declare_registers(text)
        elif text.startswith('.param'):  # of a call
            match = re.match(r'\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?', text)
            self.emit(f'alignas(16) char call_{match.group(2)}[{8 * max(1, int(match.group(3) or 8))}];')
            self.symbols[match.group(2)] = f'address(call_{match.group(2)})'
        else:
            variable = parse_variable(text)
            if variable is not None:
                self.declare(variable, f'{self.number}_{re.sub(chr(92) + "W", "_", variable.name)}')

    def instruction(self, text):
        guard = re.match(r'^@(!?)([%\w$]+)\s+(.*)$', text)
        if guard:
            text = guard.group(3)
            self.emit(f'if ({guard.group(1)}{identifier(guard.group(2))}) {{')
        operation = text.split(None, 1)[0]
        try:
            ptx_instructions.translate(self, text)
        except (ptx_instructions.NotTranslated, KeyError, AttributeError, IndexError, ValueError):
            self.unknown.append(operation)
            self.emit(f'not_translated("{operation}");')
        if guard:
            self.emit('}')

    def translate(self):
        """The C++ definition."""
        for kind, text in statements_of(self.function.body):
            if kind == 'label':
                self.emit(f'label_{identifier(text)}:;')
            elif kind == 'brace':
                self.emit(text)
            elif text.startswith('.'):
                self.directive(text)
            else:
                self.instruction(text)
        return self.signature() + ' {\n' + '\n'.join(self.declarations + self.lines) + '\n}\n'

    def signature(self):
        results = ''.join(f', char* result_{result.name}' for result in self.function.results)
        return f'static void {self.cpp_name()}(const void* const* arguments{results})'

    def cpp_name(self):
        return 'function_' + re.sub(r'\W', '_', self.function.name)
